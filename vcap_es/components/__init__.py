"""The future: what to do next, decided by plain code that neither waits nor reads a clock."""
