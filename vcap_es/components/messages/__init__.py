"""What nodes say to each other, by who speaks with whom.

`client` and `outcomes` between a client and a server (`refusals` in words), `server` between a
server and its master, `master` among masters and witnesses, `centre` between data centres, `order`
for one order of all events; `encoding` is how they are written.
"""
