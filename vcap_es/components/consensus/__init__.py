"""Who leads: elections, ballots and copies of one log, in one data centre.

`voter` promises epochs and holds the configuration, `candidacy` asks for promises, `election` says
when to stand, `replica` is one master's copy of the log, `window` how much of it is in memory,
`timings` how long to wait for what, `remark` what people may read of it afterwards.
"""
