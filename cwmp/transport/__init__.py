"""Bytes through a real TCP socket until the peer has drained them.

A frame is ``CWMP``, the payload's length as a 64-bit little-endian integer, and the payload.
The peer reads it to the last byte, keeps nothing, and answers with the length; `Sender.send`
returns when that answer is there. A frame that does not begin with the magic, or is longer
than the receiver allows, ends the connection.

No wait is for a whole frame, so that slow links work: a sender waits ``timeout_s`` for the next
byte to move, and a receiver ends a connection that is silent for ``timeout_s``, or whose frame
has fallen ``timeout_s`` behind `MIN_BYTES_S`, so that none is held by a trickle.
"""

from __future__ import annotations

from cwmp.transport.frame import DEFAULT_PORT, MAGIC, MAX_PAYLOAD_BYTES, MIN_BYTES_S
from cwmp.transport.receiver import Received, Receiver
from cwmp.transport.sender import Sender, parse_peer

__all__ = [
    "DEFAULT_PORT",
    "MAGIC",
    "MAX_PAYLOAD_BYTES",
    "MIN_BYTES_S",
    "Received",
    "Receiver",
    "Sender",
    "parse_peer",
]
