"""What simulated processes stand on: virtual time, machines, disks, links, and what is true.

`scheduler`, `machines`, `processes`, `disks`, `gates`, `network`, `site`; `oracle` is what was
acknowledged once for all, `violations` what a life fails with.
"""
