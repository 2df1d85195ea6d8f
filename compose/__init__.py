"""Whole deployments on one machine, and the broker that they need."""
