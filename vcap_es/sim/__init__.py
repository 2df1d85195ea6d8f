"""The simulator: whole data centres in one thread, on virtual time, from a seed."""
