"""One master: it follows, stands for election or leads; everything is told to it from outside.

`master` is the door, `identity` who it is and when it is told something, `connections` who is at
the other end of each connection, `outputs` what it wants done.
"""
