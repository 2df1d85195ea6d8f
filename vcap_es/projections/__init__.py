"""The present: what is therefore true, folded from the facts."""
