"""The hot loops, and the slow, obvious functions that they are tested against."""
