"""What on a host spoils a measurement: one small function a fault, one file a kind.

Each takes what was read and returns a `Finding` or nothing; `profiler.doctor` reads and calls.
"""
