"""One module a noun: which facts follow from a command. Pure functions of state, command and now."""
