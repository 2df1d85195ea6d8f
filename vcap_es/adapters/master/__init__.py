"""A master as it runs: the shell around the core of one master.

`master_node` drives the core, `log_writer` writes its log, `readiness` is what it says of itself,
`metrics` what Prometheus reads, `supervisor` starts a secondary, `global_order` asks all data
centres for one order of events.
"""
