"""A data centre in one thread, or several: the real cores on simulated links and disks.

`world` is one, with `masters` and `servers`; `centres` are several, `restores` one that is restored
from a backup. What must hold: `invariants`, `periods`, `promises`, `spans`, `copying`.
"""
