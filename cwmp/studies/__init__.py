"""Studies: grids of federated runs that can be interrupted, and what they show."""
