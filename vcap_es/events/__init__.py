"""The past: facts, how they are written down, and the log that keeps them."""
