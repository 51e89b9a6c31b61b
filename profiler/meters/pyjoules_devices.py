"""pyJoules' devices, one a rail, and what they return put right.

pyJoules 0.5.1 takes zone N for socket N, so that memory bears the number of the wrong socket;
sees a package only where it is called ``package-N`` after its own zone (no dies, no psys, no
sockets in another order); returns the counter as it stands, wraps and all; and labels NVML's
millijoules as microjoules.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

from profiler.errors import (
    CounterFaultError,
    MeterNotFoundError,
    MeterReadError,
)
from profiler.meters.powercap import Zone
from profiler.meters.rapl import counter_of

PROCESSORS, GPUS = "pyJoules.device.rapl_device", "pyJoules.device.nvidia_device"
_RAPL_ONLY = "use --meter rapl"
_patching = threading.Lock()


def processor_devices(
    powercap: Path, zones: tuple[Zone, ...]
) -> dict[str, tuple[Zone, Callable[[], int]]]:
    """By rail name, the zones that pyJoules sees, and what reads each in microjoules.

    Args:
        powercap: ``.../class/powercap``.
        zones: every zone there, as `powercap.scan` finds them.

    Raises:
        MeterNotFoundError: pyJoules is not installed, or sees nothing.
        MeterReadError: it failed while looking.
    """
    found: dict[str, tuple[Zone, Callable[[], int]]] = {}
    with _looking_at(powercap / "intel-rapl") as module:
        for domain in module.RaplDevice.available_domains():
            zone = _zone_of(domain.socket, domain.get_domain_name(), zones)
            if zone is not None:
                device = module.RaplDevice()
                device.configure([domain])
                read_uj = _reader(device, str(zone.energy_path))
                found[zone.rail.name] = (zone, partial(_checked, zone, read_uj))
    return found


def gpu_device(index: int) -> Callable[[], int]:
    """What reads GPU *index*, numbered as the driver does, in millijoules.

    pyJoules leaves the driver open: each call needs one ``nvmlShutdown``.

    Raises:
        MeterNotFoundError: pyJoules is not installed, or sees no such GPU.
    """
    module = _imported(GPUS)
    try:
        device = module.NvidiaGPUDevice()
        device.configure([module.NvidiaGPUDomain(index)])
    except Exception as error:  # its own errors have no root but Exception, NVML's another
        raise MeterNotFoundError(
            f"pyJoules does not see gpu-{index}: {type(error).__name__} {error}; use --meter nvml"
        ) from error
    return _reader(device, f"pyJoules' energy of gpu-{index}")


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MeterNotFoundError(
            f"pyJoules cannot be imported ({error}); pip install pyJoules, or {_RAPL_ONLY}"
        ) from error


@contextmanager
def _looking_at(tree: Path) -> Iterator[Any]:
    """pyJoules' module of processors, its root moved to *tree* for the length of the block."""
    module = _imported(PROCESSORS)
    absent = importlib.import_module("pyJoules.exception").NoSuchDeviceError
    with _patching:
        usual = module.RAPL_API_DIR
        module.RAPL_API_DIR = str(tree)
        try:
            yield module
        except absent as error:
            raise MeterNotFoundError(
                f"pyJoules sees no processor counter under {tree}; {_RAPL_ONLY}"
            ) from error
        except (OSError, ValueError) as error:
            raise MeterReadError(f"pyJoules failed under {tree}: {error}; {_RAPL_ONLY}") from error
        finally:
            module.RAPL_API_DIR = usual


def _zone_of(number: int, domain: str, zones: tuple[Zone, ...]) -> Zone | None:
    """The zone behind pyJoules' *domain* of zone *number*: the first below it of that name."""
    top = f"intel-rapl:{number}"
    for zone in zones:
        folder = zone.path.name
        if zone.rail.domain == domain and (
            folder == top if domain == "package" else folder.startswith(f"{top}:")
        ):
            return zone
    return None


def _checked(zone: Zone, read_uj: Callable[[], int]) -> int:
    """What pyJoules reads between two looks at the file, which must be plain counts around it.

    pyJoules takes any text for which ``float`` finds a value: ``1e6``, half a number, other
    scripts' digits.
    """
    before_uj = counter_of(zone)
    value_uj = read_uj()
    after_uj = counter_of(zone)
    if before_uj <= after_uj and not before_uj <= value_uj <= after_uj:
        raise CounterFaultError(
            f"pyJoules reads {value_uj} from {zone.energy_path}, which goes from {before_uj} to "
            f"{after_uj}; {_RAPL_ONLY}"
        )
    return value_uj


def _reader(device: Any, label: str) -> Callable[[], int]:
    def read() -> int:
        try:
            (value,) = device.get_energy()
        except ValueError as error:
            raise CounterFaultError(f"{label} is no number to pyJoules: {error}") from error
        except Exception as error:  # OSError, or NVML's own
            raise MeterReadError(f"pyJoules failed to read {label}: {error}") from error
        if not isfinite(value) or value != int(value):
            raise CounterFaultError(f"{label} is no count to pyJoules but {value}")
        return int(value)

    return read
