"""The client plane: consume, hold, refund and look up over HTTP, at every server.

`fast_lane` answers the simple consume between two reads of the socket, `app` everything else:
`calls` are read, `answers` are written, `forwarding` sends a call on to the server it concerns;
`plane` is what both ways share.
"""
