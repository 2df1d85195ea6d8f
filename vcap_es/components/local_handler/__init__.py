"""The local handler: shares the pools of intervals out to the servers of its data centre.

`local_handler` is its door. `allocator` shares out one interval's pool, first in, first out, with
`demands` and rounds of `recall`; `server_session` is one connected server, `slice_holders` says who
holds what, `liveness` who is lost, `node_directory` where all nodes are, `other_centres` what
other data centres may have.
"""
