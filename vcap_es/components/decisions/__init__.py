"""One module a noun: which facts follow from a command, by pure functions of state and now."""
