"""The future: what to do next, decided by plain code that neither waits nor reads a clock.

The seven components. A page is a file, a machine is a folder:

- `primary_master/` leads a data centre: it decides, and lets nothing out before it is durable.
- `secondary_master.py` copies the log, acknowledges, and folds as it copies.
- `meta_handler.py` takes what operators want of caps, API keys and data centres.
- `interval_handler.py` opens, changes, ends and closes the intervals of every meta.
- `local_handler/` grants slices of intervals to the volumecap servers of its data centre.
- `remote_handler/` deals with the primary masters of other data centres.
- `volumecap_server/` answers clients from its slices, and refills them ahead of need.

What they share: `master/` is whichever of the two masters a machine is now, `consensus/` who of
them leads, `messages/` what they say to each other, `decisions/` which facts follow from a command,
`hybrid_clock.py` stamps that never run backwards, `timing_wheel.py` what is due when.
"""
