"""A volumecap server as it runs: the shell around its core.

`server_node` drives the core, `master_links` are its links to the masters, `known_nodes` what it
knows of other nodes, `metrics` and `share_metrics` what Prometheus reads.
"""
