"""The code that waits: sockets, files and timers around the pure core."""
