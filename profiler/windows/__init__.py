"""Joules of one's own code: what a window is made of, below `profiler.monitor`."""
