"""Cost files put together: links, fleets, merges, differences and checks."""
