"""Links between nodes: WebSockets that are dialled, made again and never overfilled.

`link` is one of them, `send_queue` what waits to be sent, `dialler` makes links and makes them
again, `discovery` learns from one live node where the masters are.
"""
