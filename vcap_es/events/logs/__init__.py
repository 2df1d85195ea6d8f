"""Adapters of the port `EventLog`, named by what keeps the events."""
