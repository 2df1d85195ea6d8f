"""The volumecap server: answers clients from its slices, and refills them ahead of need.

`volumecap_server` is the door, `client_call` one call. `slices/` is the server's side of the slice
protocol, `keys/` the answers to idempotency keys and `idempotency` and `key_files` their use,
`holds` gives back what was held or refunded (`refund_ages` until when), `all_or_none` consumes of
several caps, `lookups` what is left. `master_addresses` and `leader_tracker` say whom to serve
from, `belonging` which cluster it is of.
"""
