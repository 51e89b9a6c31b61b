"""HTML and SVG as values that escape by default: text becomes markup only through `el`.

Names of methods, devices and layers come from files that others wrote. Whatever is not
`Markup` already is escaped, in text and in attributes alike, and characters that would break
the document or turn its text around are replaced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import escape
from typing import Any

_VOID = {"meta", "br", "hr", "input", "line", "rect", "circle", "path", "use"}
_CLOSED_SHORT = {"line", "rect", "circle", "path", "use"}
_UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
"""Controls, line separators, marks that reverse text, surrogates without their other half."""

Child = Any
"""Markup, text, a number, ``None`` (nothing), or an iterable of these."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def plain(value: object) -> str:
    """*value* as text without characters that break a document or reverse its reading."""
    return _UNSAFE.sub("\ufffd", str(value))


def text(value: object) -> Markup:
    """*value* as HTML text; `Markup` stays as it is."""
    return value if isinstance(value, Markup) else Markup(escape(plain(value), quote=True))


def join(children: Iterable[Child]) -> Markup:
    """The children one after the other."""
    return Markup("".join(_flat(child) for child in children))


def el(name: str, /, *children: Child, **attributes: object) -> Markup:
    """An element.

    Args:
        name: of the tag, from this program, never from a file.
        children: what it holds.
        attributes: ``class_`` is ``class`` and ``data_x`` is ``data-x``; ``None`` and ``False``
            leave an attribute out, ``True`` writes its name alone, floats lose idle digits.

    >>> el("p", "1 < 2", class_="note", hidden=True)
    '<p class="note" hidden>1 &lt; 2</p>'
    """
    head = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID and not children:
        return Markup(f"<{head}/>" if name in _CLOSED_SHORT else f"<{head}>")
    return Markup(f"<{head}>{join(children)}</{name}>")


def embedded(value: object) -> Markup:
    """*value* as JSON that no parser of HTML can leave: ``<``, ``>`` and ``&`` as escapes.

    Raises:
        ValueError: it holds NaN or infinity.
    """
    written = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        written = written.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(written)


def number(value: float) -> str:
    """A coordinate: two decimals at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _flat(child: Child) -> str:
    if child is None or child is False:
        return ""
    if isinstance(child, str):
        return text(child)
    if isinstance(child, Iterable):
        return join(child)
    return text(child)


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-") if key != "viewBox" else key
    if value is True:
        return f" {name}"
    shown = number(value) if isinstance(value, float) else escape(plain(value), quote=True)
    return f' {name}="{shown}"'
