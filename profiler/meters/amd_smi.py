"""AMD SMI: what it answers, in joules and watts.

Its keys differ between releases, and what a GPU does not have is a text, ``N/A``, or the largest
number: every value is looked at before it is taken.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from profiler.errors import MeterNotFoundError, MeterReadError

GUARD_POWER_W = 5000.0
"""More than one GPU module draws."""
_UJ = 1e-6
_ENERGY_KEYS = ("energy_accumulator", "power", "counter")
_POWER_KEYS = ("current_socket_power", "average_socket_power", "socket_power")
_NO_NUMBERS = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


def initialise() -> Any:
    """The module ``amdsmi`` with the driver open; each call needs one ``amdsmi_shut_down``.

    Raises:
        MeterNotFoundError: there is no such module, no ROCm library or no driver.
    """
    try:
        smi = importlib.import_module("amdsmi")
    except ImportError as error:
        raise MeterNotFoundError(
            f"AMD SMI is not installed ({error}); pip install 'cwmp[amd]', in the version of ROCm"
        ) from error
    except Exception as error:  # it loads its library as it is imported; KeyError without one
        raise MeterNotFoundError(
            f"AMD SMI finds no library of ROCm ({error!r}); install ROCm's amd-smi-lib"
        ) from error
    try:
        smi.amdsmi_init()
    except smi.AmdSmiException as error:
        raise MeterNotFoundError(
            f"no AMD driver ({said(error)}); load amdgpu, or in a container pass in /dev/kfd and "
            "/dev/dri"
        ) from error
    return smi


@contextmanager
def session() -> Iterator[Any]:
    """AMD SMI with the driver open for the length of a ``with`` block."""
    smi = initialise()
    try:
        yield smi
    finally:
        smi.amdsmi_shut_down()


def read_energy(smi: Any, handle: Any) -> tuple[int, float]:
    """The counter and the joules of its unit.

    Raises:
        AmdSmiException: the call failed.
        MeterReadError: the answer holds no counter.
    """
    answer = smi.amdsmi_get_energy_count(handle)
    raw = _first(answer, _ENERGY_KEYS)
    resolution_uj = _first(answer, ("counter_resolution",))
    if raw is None or not float(raw).is_integer() or not resolution_uj:
        raise MeterReadError(f"the energy counter answers {answer!r:.200}")
    return int(raw), resolution_uj * _UJ


def read_power_w(smi: Any, handle: Any) -> float | None:
    """The power of the socket, or of the board on older GPUs; ``None`` where none is shown.

    Raises:
        AmdSmiException: the call failed.
    """
    power_w = _first(smi.amdsmi_get_power_info(handle), _POWER_KEYS)
    return power_w if power_w is not None and 0 <= power_w <= GUARD_POWER_W else None


def address_of(smi: Any, handle: Any) -> str:
    """Its place on the PCI bus, ``0000:c1:00.0``; empty where that is not said."""
    return str(_ask(smi, smi.amdsmi_get_gpu_device_bdf, handle) or "").lower()


def name_of(smi: Any, handle: Any) -> str:
    """Its trade name."""
    answer = _ask(smi, smi.amdsmi_get_gpu_asic_info, handle) or {}
    name = str(answer.get("market_name", "N/A")).strip()
    return name if name and name != "N/A" else "AMD GPU"


def said(error: Exception) -> str:
    """An AMD SMI error in one line."""
    return " ".join(str(error).split())


def _ask(smi: Any, function: Any, handle: Any) -> Any:
    try:
        return function(handle)
    except smi.AmdSmiException:
        return None


def _first(answer: Mapping[str, Any], keys: Sequence[str]) -> float | None:
    """The first of *keys* that holds a number; some releases answer with a text instead."""
    if not isinstance(answer, Mapping):
        return None
    for key in keys:
        value = answer.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if value in _NO_NUMBERS or not value >= 0:
            continue
        return value
    return None
