"""One module a noun: its state, and how each fact changes it."""
