"""Boards: trees of hwmon, iio and power-supply files, and ``vcgencmd``, driven by known powers.

Each rail has a `Load`, a power as a function of time; files show its power, or its joules so far.
Time is told (``advance``) or real (``ticking``). A file is replaced whole, so that a reader never
meets half a number.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

Power = float | Callable[[float], float]
_SLICES = 20
VOLTAGE_V = 5.0
FULL_UWH = 40_000_000


@dataclass
class Load:
    """What one rail draws."""

    power_w: Callable[[float], float]
    energy_j: float = 0.0
    now_s: float = 0.0

    def advance(self, seconds: float) -> None:
        """Let time pass; joules by the midpoint rule over twenty slices."""
        slice_s = seconds / _SLICES
        for number in range(_SLICES):
            self.energy_j += self.power_w(self.now_s + (number + 0.5) * slice_s) * slice_s
        self.now_s += seconds

    @property
    def watts(self) -> float:
        return self.power_w(self.now_s)


@dataclass
class Shown:
    """A file and the number that a driver would put there."""

    path: Path
    number: Callable[[], int]
    every_s: float = 0.0
    next_s: float = 0.0
    last: int | None = None

    def write(self, now_s: float) -> None:
        if now_s + 1e-9 < self.next_s:
            return
        self.next_s = now_s + self.every_s
        number = self.number()
        if number == self.last:
            return
        self.last = number
        whole = self.path.with_name(f".{self.path.name}.new")
        whole.write_text(f"{number}\n")
        whole.replace(self.path)


class BoardTree:
    """A tree to point ``CWMP_SYSFS`` at."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now_s = 0.0
        self.loads: dict[str, Load] = {}
        self._shown: dict[Path, Shown] = {}
        self._held: set[Path] = set()
        self._lock = threading.Lock()
        root.mkdir(parents=True, exist_ok=True)

    def name_board(self, model: str) -> None:
        """The board's own name, as firmware gives it."""
        path = self.root / "firmware/devicetree/base/model"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{model}\0")

    def jetson(
        self,
        rails: Mapping[int, tuple[str, Power]],
        *,
        address: str = "1-0040",
        chip: int = 0,
        update_interval_ms: int | None = None,
        samples: int | None = None,
        disabled: tuple[int, ...] = (),
    ) -> Path:
        """An INA3221 as a hwmon chip: channel -> (label, power)."""
        folder = self._chip("ina3221", chip, f"devices/platform/c240000.i2c/i2c-1/{address}")
        for name, value in (("update_interval", update_interval_ms), ("samples", samples)):
            if value is not None:
                (folder / name).write_text(f"{value}\n")
        for number, (label, power) in rails.items():
            load = self._load(label, power)
            (folder / f"in{number}_label").write_text(f"{label}\n")
            (folder / f"in{number}_enable").write_text(f"{int(number not in disabled)}\n")
            (folder / f"in{number + 3}_input").write_text("40\n")
            self._show(folder / f"in{number}_input", lambda: round(VOLTAGE_V * 1e3))
            self._show(folder / f"curr{number}_input", _scaled(load, 1e3 / VOLTAGE_V))
        return folder

    def old_jetson(
        self, rails: Mapping[int, tuple[str, Power]], *, address: str, leaf: str = "iio:device0"
    ) -> Path:
        """An INA3221 as JetPack 4 shows it: channel from 0 -> (rail name, power)."""
        folder = self.root / "bus/i2c/drivers/ina3221x" / address / leaf
        folder.mkdir(parents=True)
        for number, (label, power) in rails.items():
            load = self._load(label, power)
            (folder / f"rail_name_{number}").write_text(f"{label}\n")
            self._show(folder / f"in_power{number}_input", _scaled(load, 1e3))
            self._show(folder / f"in_voltage{number}_input", lambda: round(VOLTAGE_V * 1e3))
            self._show(folder / f"in_current{number}_input", _scaled(load, 1e3 / VOLTAGE_V))
        return folder

    def chip(
        self,
        name: str,
        *,
        number: int = 0,
        device: str = "devices/platform/chip.0",
        energies: Mapping[str, Power] | None = None,
        powers: Mapping[str, Power] | None = None,
        averages: Mapping[str, Power] | None = None,
        currents: Mapping[str, Power] | None = None,
        **settings: int,
    ) -> Path:
        """A hwmon chip; rails by label, an empty one for a rail without. *settings* are files."""
        folder = self._chip(name, number, device)
        for file, value in settings.items():
            (folder / file).write_text(f"{value}\n")
        for kind, unit in (("power", 1e6), ("curr", 1e3 / VOLTAGE_V)):
            rails = (powers if kind == "power" else currents) or {}
            for index, (label, power) in enumerate(rails.items(), 1):
                load = self._rail(folder, f"{kind}{index}", label, power)
                self._show(folder / f"{kind}{index}_input", _scaled(load, unit))
                if kind == "curr":
                    self._show(folder / f"in{index}_input", lambda: round(VOLTAGE_V * 1e3))
        for index, (label, power) in enumerate((energies or {}).items(), 1):
            load = self._rail(folder, f"energy{index}", label, power)
            self._show(folder / f"energy{index}_input", _counted(load))
        for index, (label, power) in enumerate((averages or {}).items(), 1):
            load = self._rail(folder, f"power{index}", label, power)
            self._show(folder / f"power{index}_average", _scaled(load, 1e6))
        return folder

    def battery(
        self,
        name: str = "BAT0",
        power: Power = 10.0,
        *,
        shows: str = "energy",
        every_s: float = 0.0,
        sign: int = 1,
        status: str = "Discharging",
    ) -> Path:
        """A battery that shows ``energy``, ``charge``, ``power`` or ``current``."""
        folder = self._supply(name, "Battery")
        (folder / "status").write_text(f"{status}\n")
        (folder / "present").write_text("1\n")
        load = self._load(name, power)

        def left_uwh() -> float:
            return FULL_UWH - load.energy_j / 3600e-6

        if shows == "energy":
            self._show(folder / "energy_now", lambda: round(left_uwh()), every_s)
        if shows == "charge":
            self._show(folder / "charge_now", lambda: round(left_uwh() / VOLTAGE_V), every_s)
        if shows == "power":
            self._show(folder / "power_now", _scaled(load, sign * 1e6), every_s)
        if shows == "current":
            self._show(folder / "current_now", _scaled(load, sign * 1e6 / VOLTAGE_V), every_s)
        if shows in ("charge", "current"):
            (folder / "voltage_now").write_text(f"{round(VOLTAGE_V * 1e6)}\n")
        return folder

    def charger(self, name: str = "AC", *, online: bool, kind: str = "Mains") -> Path:
        """A charger, plugged in or not; call again to change it."""
        folder = self._supply(name, kind)
        (folder / "online").write_text(f"{int(online)}\n")
        return folder

    def advance(self, seconds: float) -> None:
        """Let time pass at once."""
        with self._lock:
            for load in self.loads.values():
                load.advance(seconds)
            self.now_s += seconds
            for path, shown in self._shown.items():
                if path not in self._held:
                    with suppress(FileNotFoundError, PermissionError):  # its folder is spoilt
                        shown.write(self.now_s)

    @contextmanager
    def ticking(self, period_s: float = 2e-3) -> Iterator[None]:
        """Advance with the real clock, about every *period_s*."""
        stop = threading.Event()

        def tick() -> None:
            last_s = time.perf_counter()
            while not stop.wait(period_s):
                now_s = time.perf_counter()
                self.advance(now_s - last_s)
                last_s = now_s

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def true_text(self, path: Path) -> bytes:
        """What a sound driver would show in *path* now."""
        return b"%d\n" % self._shown[path].number()

    def hold(self, path: Path, held: bool) -> None:
        """Leave *path* as it is, whatever its rail does, until it is *held* no more."""
        with self._lock:
            (self._held.add if held else self._held.discard)(path)

    def put(self, path: Path, text: str) -> None:
        """Make *path* hold *text* from now on, whatever its rail does."""
        with self._lock:
            self._shown.pop(path, None)
            path.unlink(missing_ok=True)
            path.write_text(text)

    def fail(self, path: Path) -> None:
        """Make each read of *path* end with an I/O error, as that of a dead chip does."""
        with self._lock:
            self._shown.pop(path, None)
            path.unlink(missing_ok=True)
            path.symlink_to("/proc/self/mem")

    def vanish(self, path: Path) -> None:
        """Take *path* away."""
        with self._lock:
            self._shown.pop(path, None)
            path.unlink()

    def _load(self, name: str, power: Power) -> Load:
        function = power if callable(power) else lambda _, constant=power: constant
        self.loads[name] = Load(function, now_s=self.now_s)
        return self.loads[name]

    def _rail(self, folder: Path, stem: str, label: str, power: Power) -> Load:
        if label:
            (folder / f"{stem}_label").write_text(f"{label}\n")
        return self._load(label or stem, power)

    def _chip(self, name: str, number: int, device: str) -> Path:
        place = self.root / device
        folder = place / "hwmon" / f"hwmon{number}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "device").symlink_to(place)
        link = self.root / "class/hwmon" / f"hwmon{number}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder)
        return link

    def _supply(self, name: str, kind: str) -> Path:
        folder = self.root / "class/power_supply" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "type").write_text(f"{kind}\n")
        return folder

    def _show(self, path: Path, number: Callable[[], int], every_s: float = 0.0) -> None:
        shown = Shown(path, number, every_s)
        shown.write(self.now_s)
        self._shown[path] = shown


def _scaled(load: Load, units_a_watt: float) -> Callable[[], int]:
    return lambda: round(load.watts * units_a_watt)


def _counted(load: Load) -> Callable[[], int]:
    return lambda: 5_000_000 + int(load.energy_j * 1e6)


class Vcgencmd:
    """A ``vcgencmd`` in a folder to put on PATH; it prints what ``say`` was given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._answer = folder / "answer.txt"
        self._script = folder / "vcgencmd"
        self.rails: dict[str, tuple[float, float]] = {
            "3V7_WL_SW": (0.10, 3.70),
            "3V3_SYS": (0.08, 3.31),
            "DDR_VDD2": (0.02, 1.10),
            "VDD_CORE": (2.00, 0.80),
        }
        self.show()
        self.script()

    @property
    def watts(self) -> dict[str, float]:
        """The power behind what is printed now."""
        return {rail: amperes * volts for rail, (amperes, volts) in self.rails.items()}

    def show(self) -> None:
        """Print the rails as the firmware does: currents first, then voltages."""
        lines = [
            f"{rail}_A".rjust(12) + f" current({number})={amperes:.8f}A"
            for number, (rail, (amperes, _)) in enumerate(self.rails.items())
        ]
        voltages = [(rail, volts) for rail, (_, volts) in self.rails.items()]
        voltages += [("EXT5V", 5.08), ("BATT", 0.0)]
        lines += [
            f"{rail}_V".rjust(12) + f" volt({number})={volts:.8f}V"
            for number, (rail, volts) in enumerate(voltages, 8)
        ]
        self.say("\n".join(lines) + "\n")

    def say(self, text: str) -> None:
        """Print *text* from now on."""
        whole = self._answer.with_suffix(".new")
        whole.write_text(text)
        whole.replace(self._answer)

    def script(self, *, code: int = 0, to: int = 1, wait_s: float = 0.0) -> None:
        """How it ends: its exit code, whether it speaks on 1 or 2, and after how long."""
        whole = self._script.with_suffix(".new")
        sleep = f"exec sleep {wait_s}\n" if wait_s else ""
        whole.write_text(
            "#!/bin/sh\n"
            '[ "$1" = pmic_read_adc ] || exit 255\n'
            f'{sleep}while IFS= read -r line; do printf "%s\\n" "$line"; done '
            f'< "{self._answer}" >&{to}\n'
            f"exit {code}\n"
        )
        whole.chmod(0o755)
        whole.replace(self._script)
