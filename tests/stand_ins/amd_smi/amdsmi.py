"""As much of AMD's module ``amdsmi`` as is used, scripted by the JSON file FAKE_AMDSMI names.

``{"gpus": [{...}]}``; each with ``bdf``, ``name``, ``power_w``, ``resolution_uj``, ``counter`` and
``counted_w``: the counter is *counter* units and what *counted_w* has added since ``amdsmi_init``,
64 bit wide. ``energy`` and ``power`` are status codes (0 success, 2 not supported, 45 lost).
``energy_key`` and ``power_key`` are the names of the releases. The file is read at each call.
Exceptions, their classes and texts are the module's own: release 7.0.
"""

from __future__ import annotations

import json
import os
import time
from enum import IntEnum
from pathlib import Path
from typing import Any

if "FAKE_AMDSMI" not in os.environ:  # as the real one where ROCm's library is missing
    raise KeyError("libamd_smi.so")

_STATUS = {
    1: "AMDSMI_STATUS_INVAL - Invalid parameters",
    2: "AMDSMI_STATUS_NOT_SUPPORTED - Feature not supported",
    34: "AMDSMI_STATUS_DRIVER_NOT_LOADED - Processor driver not loaded",
    45: "AMDSMI_STATUS_UNKNOWN_ERROR - An unknown error occurred",
}
_open = {"count": 0, "since_s": 0.0}


class AmdSmiInitFlags(IntEnum):
    INIT_AMD_GPUS = 2


class AmdSmiException(Exception):  # noqa: N818 - the module's name
    pass


class AmdSmiLibraryException(AmdSmiException):
    def __init__(self, err_code: int) -> None:
        super().__init__(abs(err_code))
        self.err_code = abs(err_code)

    def __str__(self) -> str:
        return f"Error code:\n\t{self.err_code} | {_STATUS.get(self.err_code, _STATUS[45])}"


class AmdSmiParameterException(AmdSmiException):
    pass


class _Handle:
    def __init__(self, index: int) -> None:
        self.index = index


def _script() -> dict[str, Any]:
    path = Path(os.environ["FAKE_AMDSMI"])
    if not path.exists():
        raise AmdSmiLibraryException(34)
    return json.loads(path.read_text())


def _gpu(handle: object) -> dict[str, Any]:
    if not isinstance(handle, _Handle):
        raise AmdSmiParameterException(handle)
    if not _open["count"]:
        raise AmdSmiLibraryException(1)
    return _script()["gpus"][handle.index]


def _check(code: int) -> None:
    if code:
        raise AmdSmiLibraryException(code)


def amdsmi_init(flag: AmdSmiInitFlags = AmdSmiInitFlags.INIT_AMD_GPUS) -> None:
    _script()
    _open["count"] += 1
    _open["since_s"] = _open["since_s"] or time.perf_counter()


def amdsmi_shut_down() -> None:
    _open["count"] -= 1


def amdsmi_get_processor_handles() -> list[_Handle]:
    return [_Handle(index) for index in range(len(_script()["gpus"]))]


def amdsmi_get_gpu_device_bdf(handle: _Handle) -> str:
    return _gpu(handle)["bdf"]


def amdsmi_get_gpu_asic_info(handle: _Handle) -> dict[str, Any]:
    return {"market_name": _gpu(handle)["name"], "vendor_id": 0x1002}


def amdsmi_get_energy_count(handle: _Handle) -> dict[str, Any]:
    gpu = _gpu(handle)
    _check(gpu["energy"])
    drawn_uj = gpu["counted_w"] * (time.perf_counter() - _open["since_s"]) * 1e6
    units = gpu["counter"]
    if isinstance(units, int):  # else something that is no count
        unit_uj = gpu["resolution_uj"] if 0 < gpu["resolution_uj"] < 1e9 else 15.259
        units = int(units + drawn_uj / unit_uj) % 2**64
    return {
        gpu["energy_key"]: units,
        "counter_resolution": gpu["resolution_uj"],
        "timestamp": time.perf_counter_ns(),
    }


def amdsmi_get_power_info(handle: _Handle) -> dict[str, Any]:
    gpu = _gpu(handle)
    _check(gpu["power"])
    answer = dict.fromkeys(
        ("current_socket_power", "average_socket_power", "gfx_voltage", "power_limit"), "N/A"
    )
    return {**answer, gpu["power_key"]: gpu["power_w"]}
