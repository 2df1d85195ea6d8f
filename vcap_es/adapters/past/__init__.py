"""Reading what is past, in a process of its own beside the node that serves."""
