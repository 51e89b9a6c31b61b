"""Raspberry Pi 5: currents and voltages of its power chip, through ``vcgencmd pmic_read_adc``.

The firmware answers with one line a converter, ``VDD_CORE_A current(7)=1.11625000A`` and
``VDD_CORE_V volt(15)=0.74944980V``. Power is their product, summed over the rails that have both
and integrated (see `sampled`). A sample is a process of its own, so it is taken five times a
second and not more.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence

from profiler.errors import (
    CounterFaultError,
    InputError,
    MeterError,
    MeterNotFoundError,
    MeterPermissionError,
    MeterReadError,
)
from profiler.meters.base import MeterInfo, Rail, SourceReport, choose_rails
from profiler.meters.sampled import SampledMeter
from profiler.meters.sysfs_files import board_model

PERIOD_S, TIMEOUT_S = 0.2, 1.0
PROGRAM = "vcgencmd"
GUARD_CURRENT_A, GUARD_VOLTAGE_V = 30.0, 30.0
"""More than any of its converters gives."""
SCOPE = (
    "the converters' own losses, the 5 V input and what hangs on USB are outside these rails",
    "no accuracy is published for this chip's readings; small rails (3V3_ADC, 3V3_DAC, 0V8_AON) "
    "may be fed from another of them",
    f"each sample runs {PROGRAM}, {1 / PERIOD_S:g} times a second: its own joules are among these",
)
_LINE = re.compile(
    r"(?P<rail>\w+)_(?P<kind>[AV]) (?:current|volt)\(\d+\)=(?P<value>\d+\.\d+)(?P=kind)",
    re.ASCII,
)
_DOMAINS = {"VDD_CORE": "core", "DDR_VDD2": "dram", "DDR_VDDQ": "dram"}


class PmicSensor:
    """Watts by rail, one process a reading.

    Args:
        program: the path of ``vcgencmd``.
        rails: the rails to return.
    """

    def __init__(self, program: str, rails: Sequence[str]) -> None:
        self._program = program
        self._rails = tuple(rails)

    def watts(self) -> Mapping[str, float]:
        """The power of every rail now.

        Raises:
            MeterReadError: the program failed, or took longer than a second.
            CounterFaultError: it said something else, or left a rail out.
        """
        shown = parse(read_adc(self._program))
        for rail in self._rails:
            if rail not in shown:
                raise CounterFaultError(f"{PROGRAM} pmic_read_adc no longer shows rail {rail}")
        return {rail: shown[rail] for rail in self._rails}

    def close(self) -> None:
        """Nothing is held open."""


def parse(text: str) -> dict[str, float]:
    """Watts by rail from what ``pmic_read_adc`` prints; rails with a voltage alone are left out.

    Raises:
        CounterFaultError: a line that is no reading, a value that no converter gives, a current
            without its voltage, or no rail at all.
    """
    values: dict[str, dict[str, float]] = {"A": {}, "V": {}}
    for line in filter(None, map(str.strip, text.splitlines())):
        match = _LINE.fullmatch(line)
        if match is None:
            raise CounterFaultError(f"{PROGRAM} pmic_read_adc says {line[:60]!r}, not a reading")
        value = float(match["value"])
        if value > (GUARD_CURRENT_A if match["kind"] == "A" else GUARD_VOLTAGE_V):
            raise CounterFaultError(f"{PROGRAM} pmic_read_adc says {line!r}, too much to be true")
        if match["rail"] in values[match["kind"]]:
            raise CounterFaultError(f"{PROGRAM} pmic_read_adc says {match['rail']} twice")
        values[match["kind"]][match["rail"]] = value
    missing = values["A"].keys() - values["V"].keys()
    if missing or not values["A"]:
        what = f"a current without a voltage for {min(missing)}" if missing else "no current"
        raise CounterFaultError(f"{PROGRAM} pmic_read_adc shows {what}")
    return {rail: amperes * values["V"][rail] for rail, amperes in values["A"].items()}


def read_adc(program: str) -> str:
    """What the firmware answers.

    Raises:
        MeterNotFoundError: this board's firmware has no such command.
        MeterPermissionError: the device of the firmware may not be opened.
        MeterReadError: the program failed, or took longer than a second.
    """
    try:
        done = subprocess.run(
            [program, "pmic_read_adc"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise MeterReadError(f"{program} did not answer within {TIMEOUT_S:g} s") from error
    except OSError as error:
        raise MeterReadError(f"{program} cannot be run: {error.strerror}") from error
    said = f"{done.stdout}{done.stderr}".strip()
    if "error=" in done.stdout or "not registered" in said:
        raise MeterNotFoundError(
            "this board's firmware knows no pmic_read_adc; it takes a Raspberry Pi 5 or Compute "
            "Module 5, with firmware of 2023-10 or later (sudo rpi-eeprom-update -a)"
        )
    if done.returncode != 0 and re.search(r"permission|vchi|can't open|/dev/vc", said, re.I):
        raise MeterPermissionError(
            f"{PROGRAM} may not ask the firmware; sudo usermod -aG video $USER, then log in again"
        )
    if done.returncode != 0:
        last = said.splitlines()[-1][:80] if said else "nothing"
        raise MeterReadError(f"{program} ended with {done.returncode} and said {last!r}")
    return done.stdout


class PmicSource:
    """Finds ``vcgencmd`` on PATH and asks it once."""

    name = "pmic"

    def discover(self) -> Sequence[SourceReport]:
        """One report: the rails shown, or why there is nothing to read."""
        cause = remedy = None
        rails: tuple[Rail, ...] = ()
        try:
            rails = _rails(_program())
        except MeterError as error:
            cause, _, remedy = str(error).partition("; ")
        return [
            SourceReport(
                self.name,
                usable=cause is None,
                path=shutil.which(PROGRAM) or f"{PROGRAM} on PATH",
                device=_device() if cause is None else None,
                rails=rails,
                unit="A x V, sampled",
                cause=cause,
                remedy=None if cause is None else remedy or f"run {PROGRAM} pmic_read_adc",
            )
        ]

    def open(
        self,
        argument: str = "",
        *,
        device: str = "cpu",
        rails: Sequence[str] | None = None,
        clock: Callable[[], float] | None = None,
        background: bool = True,
    ) -> SampledMeter:
        """Open the rails; see `MeterSource.open`.

        Raises:
            InputError: an argument, an unknown rail, or a device that is no CPU.
            MeterNotFoundError: no ``vcgencmd``, or a board that is no Raspberry Pi 5.
            MeterPermissionError: the firmware may not be asked.
            MeterReadError, CounterFaultError: it did not answer, or nonsense.
        """
        if argument:
            raise InputError(f"pmic takes no argument, got {argument!r}; choose rails instead")
        if device != "cpu":
            raise InputError(f"pmic meters a Raspberry Pi, not {device}; use --device cpu")
        program = _program()
        available = _rails(program)
        selected = choose_rails(available, rails)
        info = MeterInfo(
            name=self.name,
            device=_device(),
            origin="measured",
            rails=available,
            selected=selected,
            scope=SCOPE,
        )
        timing = {} if clock is None else {"clock": clock}
        sensor = PmicSensor(program, selected)
        return SampledMeter(info, sensor, PERIOD_S, background=background, **timing)


SOURCE = PmicSource()


def _program() -> str:
    program = shutil.which(PROGRAM)
    if program is None:
        raise MeterNotFoundError(
            f"{PROGRAM} is not on PATH; on a Raspberry Pi 5: sudo apt install raspi-utils"
        )
    return program


def _rails(program: str) -> tuple[Rail, ...]:
    return tuple(Rail(rail, _DOMAINS.get(rail, "board")) for rail in parse(read_adc(program)))


def _device() -> str:
    return board_model() or "Raspberry Pi"
