"""The numbers that a sender and a receiver share."""

from __future__ import annotations

import struct

MAGIC = b"CWMP"
HEADER = struct.Struct("<4sQ")
ANSWER = struct.Struct("<Q")
DEFAULT_PORT = 7533
MAX_PAYLOAD_BYTES = 4 * 2**30
MIN_BYTES_S = 1000
"""The slowest frame that a receiver drains, in bytes a second."""


def cause(error: Exception) -> str:
    """What the system says of a failed call, in a few words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
