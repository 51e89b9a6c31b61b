"""What a file can hold in place of a number: functions of the text that should be there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class TextFault:
    """A distortion of a true text, which ends in a line feed.

    Attributes:
        sound: a reader may take it for the number that it is.
    """

    name: str
    distort: Callable[[bytes], bytes]
    sound: bool = False


def _fixed(text: bytes) -> Callable[[bytes], bytes]:
    return lambda _: text


TEXT_FAULTS = (
    TextFault("empty", _fixed(b"")),
    TextFault("a line feed alone", _fixed(b"\n")),
    TextFault("blanks", _fixed(b"    \n")),
    TextFault("letters", _fixed(b"unavailable\n")),
    TextFault("N/A", _fixed(b"N/A\n")),
    TextFault("zeros of a lost block", _fixed(b"\0" * 16)),
    TextFault("a NUL within", lambda true: true[:2] + b"\0" + true[2:]),
    TextFault("a NUL at the end", lambda true: true.rstrip() + b"\0\n"),
    TextFault("invalid UTF-8", _fixed(b"\xff\xfe\x80\x81\n")),
    TextFault("a UTF-8 mark before it", lambda true: b"\xef\xbb\xbf" + true),
    TextFault("hexadecimal", lambda true: b"0x%x\n" % _number(true)),
    TextFault("a fraction", lambda true: b"%d.5\n" % _number(true)),
    TextFault("an exponent", lambda true: b"%de0\n" % _number(true)),
    TextFault("1e6", _fixed(b"1e6\n")),
    TextFault("Arabic digits", _fixed("١٢٣٤٥٦\n".encode())),
    TextFault("full-width digits", _fixed("１２３\n".encode())),
    TextFault("superscript digits", _fixed("²³\n".encode())),
    TextFault("a plus sign", lambda true: b"+" + true),
    TextFault("a minus sign alone", _fixed(b"-\n")),
    TextFault("two minus signs", _fixed(b"--5\n")),
    TextFault("a large negative number", _fixed(b"-99999999999\n")),
    TextFault("1e30 in digits", _fixed(b"1" + b"0" * 30 + b"\n")),
    TextFault("2**63", _fixed(b"%d\n" % 2**63)),
    TextFault("2**64 - 1", _fixed(b"%d\n" % (2**64 - 1))),
    TextFault("2**64", _fixed(b"%d\n" % 2**64)),
    TextFault("2**70", _fixed(b"%d\n" % 2**70)),
    TextFault("nan", _fixed(b"nan\n")),
    TextFault("inf", _fixed(b"inf\n")),
    TextFault("-inf", _fixed(b"-Infinity\n")),
    TextFault("two numbers", lambda true: true.rstrip() + b" " + true),
    TextFault("two lines", lambda true: true + true),
    TextFault("underscores", lambda true: b"%d_0\n" % _number(true)),
    TextFault("thousands apart", lambda true: b"1,%d\n" % _number(true)),
    TextFault("a unit", lambda true: true.rstrip() + b" uW\n"),
    TextFault("1 MB of digits", _fixed(b"7" * MEGABYTE + b"\n")),
    TextFault("1 MB of blanks", lambda true: b" " * MEGABYTE + true),
    TextFault("truncated", lambda true: b"%d" % (_number(true) // 1000)),
    TextFault("no line feed", lambda true: true.rstrip()),
    TextFault("leading zeros", lambda true: b"00" + true, sound=True),
    TextFault("a carriage return", lambda true: true.rstrip() + b"\r\n", sound=True),
)


def _number(true: bytes) -> int:
    return int(true)
