"""Whose recordings a folder holds: one meter on one device of one host, never two."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from profiler.errors import CwmpError, InputError, OutputError
from profiler.files import read_json
from profiler.host import describe_host
from profiler.journal import Journal
from profiler.meters.base import MeterInfo

ENVIRONMENT = "environment.json"
_HOST = ("cpu", "architecture", "logical_cpus")


def make_folder(folder: Path) -> None:
    """Make *folder* and what it lies in.

    Raises:
        OutputError: it cannot be made or is a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {folder}: {error.strerror or error}; give another --out"
        ) from error


def refuse_others(folder: Path, info: MeterInfo, device: str) -> None:
    """Refuse *folder* if what it holds came from another meter, device or host.

    Its environment and every journal that can be read are asked.

    Args:
        folder: exists or not.
        info: of the open meter.
        device: ``cuda:N`` or ``cpu``.

    Raises:
        InputError: naming the file, what differs, and both values.
    """
    now = _here(info, device)
    for path, was in _sessions(folder):
        for name, value in was.items():
            if value is not None and value != now[name]:
                raise InputError(
                    f"{path} is of another session: its {name} is {_short(value)}, now it is "
                    f"{_short(now[name])}; record into another folder (--out), or remove this one"
                )


def _here(info: MeterInfo, device: str) -> dict[str, Any]:
    host = describe_host()
    return {
        "meter": info.name,
        "metered device": info.device,
        "origin": info.origin,
        "rails": list(info.selected),
        "device": device,
        **{name: host.get(name) for name in _HOST},
    }


def _sessions(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The files of *folder* that say whose they are, and what they say; damaged ones do not."""
    environment = folder / ENVIRONMENT
    if environment.exists():
        with suppress(CwmpError, AttributeError):
            content = read_json(environment)
            meter = content.get("meter") or {}
            yield environment, _said(meter, content.get("device"), content.get("host"), meter)
    for path in sorted(folder.glob("*.journal")):
        try:
            header = Journal.read(path).header
        except CwmpError:
            continue  # the stage that it belongs to will say so
        asked, made = header.get("identity", {}), header.get("metadata", {})
        said = {
            "name": asked.get("meter"),
            "device": asked.get("metered"),
            "selected": asked.get("rails"),
        }
        yield path, _said(said, asked.get("device"), made.get("host"), made)


def _said(
    meter: Mapping[str, Any],
    device: str | None,
    host: Mapping[str, Any] | None,
    made: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "meter": meter.get("name"),
        "metered device": meter.get("device"),
        "origin": made.get("origin"),
        "rails": meter.get("selected"),
        "device": device,
        **{name: (host or {}).get(name) for name in _HOST},
    }


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
