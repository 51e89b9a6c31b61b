"""The parts of a message, each from arrays to bytes and back; `cwmp.codec` puts them together."""
