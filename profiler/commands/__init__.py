"""The commands that need neither torch nor pandas."""
