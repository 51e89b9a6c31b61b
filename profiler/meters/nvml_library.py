"""The driver's libnvidia-ml by itself, where nvidia-ml-py is not installed.

Names, arguments and results are those of the module ``pynvml``, for the few calls that this
project makes. Layouts and codes: NVML API reference, nvml.h.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_int, c_longlong, c_uint, c_ulonglong, c_void_p
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
_NO_SUPPORT, _NO_PERMISSION, _NO_LIBRARY, _NO_FUNCTION = 3, 4, 12, 13
_TEXT_BYTES = 96


class NVMLError(Exception):
    """A call failed; ``value`` is the driver's code. The common codes have classes of their own."""

    def __new__(cls, value: int) -> NVMLError:
        return super().__new__(_CLASSES.get(value, NVMLError))

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        if self.value == _NO_LIBRARY:
            return "NVML Shared Library Not Found"
        if self.value == _NO_FUNCTION or _loaded is None:
            return f"NVML error {self.value}"
        describe = _loaded.nvmlErrorString
        describe.restype = ctypes.c_char_p
        return str(describe(self.value).decode(errors="replace"))


class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818 - as pynvml calls it
    """This GPU does not have it."""


class NVMLError_NoPermission(NVMLError):  # noqa: N801, N818
    """Not for this user."""


_CLASSES = {_NO_SUPPORT: NVMLError_NotSupported, _NO_PERMISSION: NVMLError_NoPermission}
_loaded: ctypes.CDLL | None = None


class FieldValue(ctypes.Structure):
    """nvmlFieldValue_t; ``value`` is read by ``valueType``, see `pynvml`."""

    class Value(ctypes.Union):
        """nvmlValue_t."""

        _fields_ = (
            ("dVal", ctypes.c_double),
            ("uiVal", c_uint),
            ("ulVal", ctypes.c_ulong),
            ("ullVal", c_ulonglong),
            ("sllVal", c_longlong),
            ("siVal", c_int),
            ("usVal", ctypes.c_ushort),
        )

    _fields_ = (
        ("fieldId", c_uint),
        ("scopeId", c_uint),
        ("timestamp", c_longlong),
        ("latencyUsec", c_longlong),
        ("valueType", c_uint),
        ("nvmlReturn", c_uint),
        ("value", Value),
    )


class Violation(ctypes.Structure):
    """nvmlViolationTime_t."""

    _fields_ = (("referenceTime", c_ulonglong), ("violationTime", c_ulonglong))


def nvmlInit() -> None:  # noqa: N802 - as pynvml calls it, here and below
    """Load the driver's library and open it."""
    global _loaded
    try:
        _loaded = _loaded or ctypes.CDLL(LIBRARY)
    except OSError:
        raise NVMLError(_NO_LIBRARY) from None
    _call("nvmlInit_v2")


def nvmlShutdown() -> None:  # noqa: N802
    """Let go of it."""
    _call("nvmlShutdown")


def nvmlSystemGetDriverVersion() -> str:  # noqa: N802
    """``580.95.05``."""
    return _text("nvmlSystemGetDriverVersion")


def nvmlDeviceGetCount() -> int:  # noqa: N802
    """How many GPUs there are."""
    return _number("nvmlDeviceGetCount_v2", c_uint)


def nvmlDeviceGetHandleByIndex(index: int) -> c_void_p:  # noqa: N802
    """What the other calls take."""
    handle = c_void_p()
    _call("nvmlDeviceGetHandleByIndex_v2", c_uint(index), byref(handle))
    return handle


def nvmlDeviceGetUUID(handle: c_void_p) -> str:  # noqa: N802
    """``GPU-...``."""
    return _text("nvmlDeviceGetUUID", handle)


def nvmlDeviceGetName(handle: c_void_p) -> str:  # noqa: N802
    """Its trade name."""
    return _text("nvmlDeviceGetName", handle)


def nvmlDeviceGetMigMode(handle: c_void_p) -> list[int]:  # noqa: N802
    """Whether it is cut into slices, now and after the next reset."""
    now, then = c_uint(), c_uint()
    _call("nvmlDeviceGetMigMode", handle, byref(now), byref(then))
    return [now.value, then.value]


def nvmlDeviceGetTotalEnergyConsumption(handle: c_void_p) -> int:  # noqa: N802
    """mJ since the driver was loaded."""
    return _number("nvmlDeviceGetTotalEnergyConsumption", c_ulonglong, handle)


def nvmlDeviceGetPowerUsage(handle: c_void_p) -> int:  # noqa: N802
    """mW."""
    return _number("nvmlDeviceGetPowerUsage", c_uint, handle)


def nvmlDeviceGetFieldValues(  # noqa: N802
    handle: c_void_p, fields: list[tuple[int, int]]
) -> ctypes.Array[FieldValue]:
    """The values of (field, scope) pairs; each has a code of its own."""
    values = (FieldValue * len(fields))()
    for value, (field, scope) in zip(values, fields, strict=True):
        value.fieldId, value.scopeId = field, scope
    _call("nvmlDeviceGetFieldValues", handle, c_int(len(fields)), byref(values))
    return values


def nvmlDeviceGetArchitecture(handle: c_void_p) -> int:  # noqa: N802
    """7 is Ampere, 9 Hopper."""
    return _number("nvmlDeviceGetArchitecture", c_uint, handle)


def nvmlDeviceGetCudaComputeCapability(handle: c_void_p) -> tuple[int, int]:  # noqa: N802
    """(8, 0) for GA100."""
    major, minor = c_int(), c_int()
    _call("nvmlDeviceGetCudaComputeCapability", handle, byref(major), byref(minor))
    return major.value, minor.value


def nvmlDeviceGetClockInfo(handle: c_void_p, kind: int) -> int:  # noqa: N802
    """MHz; 1 is the SM clock."""
    return _number("nvmlDeviceGetClockInfo", c_uint, handle, c_uint(kind))


def nvmlDeviceGetTemperature(handle: c_void_p, sensor: int) -> int:  # noqa: N802
    """Degrees Celsius; 0 is the GPU."""
    return _number("nvmlDeviceGetTemperature", c_uint, handle, c_uint(sensor))


def nvmlDeviceGetCurrentClocksEventReasons(handle: c_void_p) -> int:  # noqa: N802
    """What holds the clock down, as a mask."""
    return _number("nvmlDeviceGetCurrentClocksThrottleReasons", c_ulonglong, handle)


def nvmlDeviceGetViolationStatus(handle: c_void_p, policy: int) -> Violation:  # noqa: N802
    """For how long a limit held the clock down; 0 is power, 1 heat."""
    violation = Violation()
    _call("nvmlDeviceGetViolationStatus", handle, c_uint(policy), byref(violation))
    return violation


def nvmlDeviceGetPersistenceMode(handle: c_void_p) -> int:  # noqa: N802
    """1: the driver stays loaded while nobody uses the GPU."""
    return _number("nvmlDeviceGetPersistenceMode", c_uint, handle)


def _call(name: str, *arguments: Any) -> None:
    try:
        function = getattr(_loaded, name)
    except AttributeError:
        raise NVMLError(_NO_FUNCTION) from None
    code = function(*arguments)
    if code:
        raise NVMLError(code)


def _number(name: str, kind: type[Any], *arguments: Any) -> int:
    value = kind()
    _call(name, *arguments, byref(value))
    return int(value.value)


def _text(name: str, *arguments: Any) -> str:
    buffer = ctypes.create_string_buffer(_TEXT_BYTES)
    _call(name, *arguments, buffer, c_uint(_TEXT_BYTES))
    return buffer.value.decode(errors="replace")
