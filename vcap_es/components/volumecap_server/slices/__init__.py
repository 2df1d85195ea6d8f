"""The server's side of the slice protocol.

`engine` is the door. `table` has the slices, `slice` is one of them, `consume_queue` who waits for
which, `refill` asks for more ahead of need, `returns` gives back what is recalled, `grant_receiver`
hears the master and `reporter` tells it, `journal` is what survives and `journal_writer` commits it
in groups; `limits` are its times and bounds, `outputs` what it wants done.
"""
