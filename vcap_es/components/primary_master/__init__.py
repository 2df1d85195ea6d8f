"""The primary master: composes the handlers, and lets nothing out before it is durable.

`primary_master` is the door. `leadership` runs commit rounds over the `followers`, `approvals` are
what two operators must want, `confirmations` who has yet to hear of a changed definition, `outputs`
what it wants done.
"""
