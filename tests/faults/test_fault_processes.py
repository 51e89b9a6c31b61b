"""``vcgencmd`` that dies, hangs, is killed, or says something else; real processes throughout."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from benches import manual_time
from ledger import Ledger, Trial, follow, open_spoilt
from stand_ins.boards import BoardTree, Vcgencmd

from profiler.meters import pmic
from profiler.meters.base import EnergyMeter
from profiler.meters.fake import ManualClock
from profiler.meters.pmic import PmicSource

pytestmark = pytest.mark.usefixtures("board_tree")
EXIT_CODES = (1, 2, 3, 126, 127, 128, 255)
SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT, signal.SIGPIPE)


def _value(text: str) -> Callable[[str], str]:
    """VDD_CORE's current says *text*."""
    return lambda true: true.replace("2.00000000A", text)


def _cut(share: float) -> Callable[[str], str]:
    return lambda true: true[: int(len(true) * share)]


ANSWERS: dict[str, Callable[[str], str]] = {
    "nothing": lambda true: "",
    "line feeds": lambda true: "\n\n\n",
    "letters": lambda true: "vcgencmd: bad mood\n",
    "an error": lambda true: 'error=1 error_msg="Command not registered"\n',
    "a NUL": lambda true: "\0" * 64,
    "100 kB of letters": lambda true: "x" * 100_000 + "\n",
    "100 kB of lines": lambda true: true * 250,
    "every line twice": lambda true: true + true,
    "one rail twice": lambda true: true + true.splitlines(keepends=True)[3],
    "no currents": lambda true: "".join(x for x in true.splitlines(True) if "current" not in x),
    "no voltages": lambda true: "".join(x for x in true.splitlines(True) if "volt" not in x),
    "a rail less": lambda true: "".join(x for x in true.splitlines(True) if "VDD_CORE" not in x),
    "another board's rails": lambda true: true.replace("VDD_CORE", "VDD_OTHER"),
    "cut at an eighth": _cut(1 / 8),
    "cut at a half": _cut(1 / 2),
    "cut at two thirds": _cut(2 / 3),
    "cut before the last but one": _cut(0.8),
    "amperes called volts": lambda true: true.replace("A\n", "V\n"),
    "no unit": lambda true: true.replace("A\n", "\n"),
    "milliamperes": lambda true: true.replace("00A\n", "00mA\n"),
    "a comma for the point": lambda true: true.replace(".", ","),
    "a value of letters": _value("manyA"),
    "an empty value": _value("A"),
    "a value of nan": _value("nanA"),
    "an infinite value": _value("infA"),
    "a negative value": _value("-2.00000000A"),
    "a signed value": _value("+2.00000000A"),
    "a hexadecimal value": _value("0x2A"),
    "a value with exponent": _value("2.0e0A"),
    "a value of 1e30": _value("1" + "0" * 30 + ".0A"),
    "a value of 31 A": _value("31.00000000A"),
    "a value of two": _value("2.0 2.0A"),
    "a value with underscores": _value("2_0.0A"),
    "Arabic digits": _value("٢.٠A"),
}


class Pi:
    """A board of constant power on time moved by hand."""

    def __init__(self, command: Vcgencmd, clock: ManualClock) -> None:
        self.command, self.clock, self.meter, self.joules = command, clock, None, 0.0
        self.true = (command.folder / "answer.txt").read_text()

    def open(self) -> EnergyMeter:
        self.meter = PmicSource().open(clock=self.clock, background=False)
        return self.meter

    def advance(self) -> None:
        self.clock.advance(0.2)
        self.joules += 0.2 * self.command.watts["VDD_CORE"]
        if self.meter is not None:
            self.meter.sample()

    def mend(self) -> None:
        self.command.say(self.true)
        self.command.script()

    def judge(self, ledger: Ledger, fault: str, where: str, inject: Callable[[], None]) -> None:
        trial = Trial("VDD_CORE", lambda: self.joules, 1e-6)
        run = open_spoilt if where == "opening" else follow
        outcome = run(trial, self.open, self.advance, inject, self.mend)
        assert outcome == "detected"
        ledger.add("pmic", fault, where, outcome)  # type: ignore[arg-type]


@pytest.fixture
def pi(vcgencmd: Vcgencmd, monkeypatch: pytest.MonkeyPatch) -> Pi:
    return Pi(vcgencmd, manual_time(monkeypatch))


@pytest.mark.parametrize("fault", ANSWERS)
@pytest.mark.parametrize("where", ["opening", "reading"])
def test_another_answer(pi: Pi, ledger: Ledger, where: str, fault: str) -> None:
    if where == "opening" and fault == "another board's rails":
        pytest.skip("at opening, any board's rails are its rails")
    if where == "opening" and fault == "a rail less":
        pytest.skip("at opening, the rails are those that are shown")
    pi.judge(ledger, f"answer: {fault}", where, lambda: pi.command.say(ANSWERS[fault](pi.true)))


def test_bytes_that_are_no_text(pi: Pi, ledger: Ledger) -> None:
    answer = pi.command.folder / "answer.txt"
    pi.judge(
        ledger,
        "answer: invalid UTF-8",
        "reading",
        lambda: answer.write_bytes(b"\xff\xfe" + pi.true.encode()) and None,
    )


@pytest.mark.parametrize("code", EXIT_CODES)
@pytest.mark.parametrize("where", ["opening", "reading"])
def test_an_exit_code(pi: Pi, ledger: Ledger, where: str, code: int) -> None:
    pi.judge(ledger, f"exit code {code}", where, lambda: pi.command.script(code=code))


def _script(pi: Pi, text: str, mode: int = 0o755) -> None:
    script = pi.command.folder / "vcgencmd"
    script.unlink()
    script.write_text(text)
    script.chmod(mode)


@pytest.mark.parametrize("number", SIGNALS)
def test_killed_in_the_middle_of_its_answer(pi: Pi, ledger: Ledger, number: signal.Signals) -> None:
    text = f'#!/bin/sh\nhead -c 90 "{pi.command.folder}/answer.txt"\nkill -{number.value} $$\n'
    pi.judge(ledger, f"killed by {number.name}", "reading", lambda: _script(pi, text))


def test_a_program_that_hangs(pi: Pi, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pmic, "TIMEOUT_S", 0.1)
    pi.judge(ledger, "hangs", "reading", lambda: pi.command.script(wait_s=30.0))


def test_a_program_that_hangs_at_opening(
    pi: Pi, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pmic, "TIMEOUT_S", 0.1)
    pi.judge(ledger, "hangs", "opening", lambda: pi.command.script(wait_s=30.0))


def test_a_child_that_keeps_the_pipe(
    pi: Pi, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program ends, but what it started holds its output open."""
    monkeypatch.setattr(pmic, "TIMEOUT_S", 0.1)
    pi.judge(
        ledger,
        "leaves a child with its output",
        "reading",
        lambda: _script(pi, "#!/bin/sh\nsleep 1 &\nexit 0\n"),
    )


@pytest.mark.parametrize(
    ("fault", "inject"),
    [
        ("is gone", lambda pi: (pi.command.folder / "vcgencmd").unlink()),
        ("is no program", lambda pi: _script(pi, "\x7fELF but not really")),
        ("may not be run", lambda pi: _script(pi, "#!/bin/sh\n", 0o644)),
        ("has an interpreter that is gone", lambda pi: _script(pi, "#!/no/such/shell\n")),
        ("speaks on the wrong stream", lambda pi: pi.command.script(to=2)),
        ("is empty", lambda pi: _script(pi, "#!/bin/sh\n")),
    ],
)
def test_the_program_itself(
    pi: Pi, ledger: Ledger, fault: str, inject: Callable[[Pi], None]
) -> None:
    pi.judge(ledger, f"program {fault}", "reading", lambda: inject(pi))


def test_a_folder_in_its_place(pi: Pi, board_tree: BoardTree, ledger: Ledger) -> None:
    script: Path = pi.command.folder / "vcgencmd"
    keep = script.with_name("kept")

    def inject() -> None:
        script.rename(keep)
        script.mkdir()

    mend = pi.mend

    def back() -> None:
        script.rmdir()
        mend()

    pi.mend = back  # type: ignore[method-assign]
    pi.judge(ledger, "program is a folder", "reading", inject)
