"""A bundle to a published night of lists: `score`, `report` and `taste` are the commands, `run` the way of a night."""
