"""Lives: how one is drawn from its seed, what is done to it, and how it ends.

`life` is the one of a single data centre; `multi_centre`, `stepwise`, `bounds` and `restored` are
others. `profiles` draws them, `fault_schedule` and `nemesis` do the harm, `crash_points` at every
step of a transfer; `clients`, `patient_clients` and `workload` do what people do.
"""
