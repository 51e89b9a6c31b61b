"""YAML read by the safe loader alone, and the line of each key for messages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profiler.errors import FileFormatError

Place = tuple[Any, ...]
_DEEPEST = 20
_LARGEST_BYTES = 1_000_000


def read_yaml(path: Path, content: bytes) -> tuple[dict[str, Any], Mapping[Place, int]]:
    """The document as plain values, and the line, from 1, of each key by its place.

    Raises:
        FileFormatError: not YAML, not a mapping, a key given twice, aliases, or beyond any size
            a person would write.
    """
    import yaml

    if len(content) > _LARGEST_BYTES:
        raise FileFormatError(f"{path} has {len(content)} bytes: it is not a study")
    lines: dict[Place, int] = {}
    try:
        text = content.decode()
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        _walk(path, tree, (), lines, set())
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, FileFormatError):
            raise
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark else ""
        said = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise FileFormatError(f"{path}{at}: not YAML: {said}") from error
    except RecursionError as error:
        raise FileFormatError(f"{path}: nested too deep to be a study") from error
    if not isinstance(document, dict):
        raise FileFormatError(f"{path} is not a study: it has no keys")
    return document, lines


def where(path: Path, place: Place, lines: Mapping[Place, int]) -> str:
    """``study.yaml, line 3, devices.0.costs``: as near as the place is known."""
    line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), None)
    name = ".".join(map(str, place))
    return str(path) + (f", line {line}" if line else "") + (f", {name}" if name else "")


def _walk(path: Path, node: Any, place: Place, lines: dict[Place, int], seen: set[int]) -> None:
    """Note lines; refuse what a safe loader takes but nobody means."""
    import yaml

    if node is None:
        return
    if id(node) in seen or len(place) > _DEEPEST:
        raise FileFormatError(
            f"{path}, line {node.start_mark.line + 1}: aliases are not read: write it out"
        )
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*place, key.value)
            if here in lines:
                raise FileFormatError(
                    f"{path}, line {key.start_mark.line + 1}, {key.value}: given twice"
                )
            lines[here] = key.start_mark.line + 1
            _walk(path, value, here, lines, seen)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            lines[(*place, number)] = value.start_mark.line + 1
            _walk(path, value, (*place, number), lines, seen)
