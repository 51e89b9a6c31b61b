"""Energy of known windows: this project, zeus, pyJoules and codecarbon on the same counters.

    python benchmarks/peers.py [--quick] [--json FILE] [--markdown FILE] [--venv DIR]
    python benchmarks/peers.py --self-check

The peers go into a virtual environment of this benchmark's own. Counters step as hardware's do
(`ticker.c`) and their power is known at every instant, so each window's energy is known exactly.
Each tool runs in its own process (`peers_adapter.py`), opens the host once a case, and its windows
come in random order among those of the others. Needs Linux and a C compiler; no root, no hardware.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from peers_check import self_check
from peers_host import CASES, Case, Host, compile_all, running
from peers_process import Process, install_peers
from peers_results import Row, cells, document, table, verdicts

OURS = ("cwmp", "cwmp, no quiet")
PEERS = ("zeus", "pyJoules", "codecarbon")
REPEATS_OURS = {0.02: 40, 0.1: 24, 0.2: 24, 1.0: 3, 10.0: 2}
REPEATS_PEERS = {0.02: 8, 0.1: 6, 0.2: 6, 1.0: 2, 10.0: 2}
QUICK_OURS, QUICK_PEERS = {0.02: 6, 0.1: 4, 0.2: 3}, {0.02: 2, 0.1: 2, 0.2: 2}
_UNTIL_BEGUN_S = 0.015
_SAYS_OF_A_FAULT = 1  # sound windows after each that fails


def main() -> None:
    """Run every case, print the table, and write what was asked for."""
    arguments = parse()
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        sys.exit("a C compiler is needed: install gcc or clang")
    with tempfile.TemporaryDirectory(prefix="cwmp-peers-") as name:
        built = Path(name)
        compile_all(compiler, built)
        if arguments.self_check:
            print(self_check(built))
            return
        python = install_peers(arguments.venv)
        rows, steps, versions = run_cases(arguments, built, python)
    found = cells(rows)
    tools = [tool for tool in (*OURS, *PEERS) if any(row.tool == tool for row in rows)]
    head = ", ".join(f"{tool} {versions.get(tool, '?')}" for tool in tools)
    text = f"{head}; {datetime.now(UTC):%Y-%m-%d}\n\n{table(found, tools)}\n"
    print(text)
    print("\n".join(verdicts(rows, found)))
    if arguments.markdown:
        arguments.markdown.write_text(text)
    if arguments.json:
        figures = document(rows, found, versions=versions, steps=steps, seed=arguments.seed)
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def parse() -> argparse.Namespace:
    """The command line."""
    cache = Path(tempfile.gettempdir()) / "cwmp-peers-venv"
    parser = argparse.ArgumentParser(description="Meter known windows with this tool and others.")
    parser.add_argument(
        "--quick", action="store_true", help="few windows, none of a second or more"
    )
    parser.add_argument("--json", type=Path, help="write every window to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    parser.add_argument("--venv", type=Path, default=cache, help="where the peers are installed")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--tools", default=";".join((*OURS, *PEERS)), help="some, by ';'")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--self-check", action="store_true", help="check the stand-in, no peers")
    return parser.parse_args()


def run_cases(
    arguments: argparse.Namespace, built: Path, python: Path
) -> tuple[list[Row], list[Any], dict[str, str]]:
    """Every window of every case; the counters' steps; the tools' versions."""
    rows: list[Row] = []
    steps: list[Any] = []
    versions: dict[str, str] = {}
    started_s = time.monotonic()
    cases = [case for case in CASES if arguments.only in case.name]
    for number, case in enumerate(cases):
        folder = built / f"case-{number}"
        folder.mkdir()
        with (
            running(case, built, folder, arguments.seed + number, steps) as host,
            opened(arguments.tools.split(";"), host, case, python) as processes,
        ):
            versions |= {tool: each.about.get("version", "?") for tool, each in processes.items()}
            draw = random.Random(arguments.seed + number)
            for tool, length_s in plan(case, list(processes), arguments.quick, draw):
                rows += windows(case, host, processes[tool], length_s)
        taken_s = time.monotonic() - started_s
        print(f"{number + 1}/{len(cases)} {case.name}, {taken_s:.0f} s so far", file=sys.stderr)
    return rows, steps, versions


@contextmanager
def opened(tools: list[str], host: Host, case: Case, python: Path) -> Iterator[dict[str, Process]]:
    """A process a tool; this project's open last, so that they probe a quiet machine."""
    order = {"do": "open", "sysfs": str(host.sysfs), "control": str(host.control), "gpu": case.gpu}
    with ExitStack() as stack:
        processes = {}
        for tool in tools:
            own = Path(sys.executable) if tool in OURS else python
            processes[tool] = stack.enter_context(Process(tool, own, host.environment))
        others = [process for tool, process in processes.items() if tool not in OURS]
        for process in others:
            process.send(order)
        for process in others:
            process.about = process.reply(120.0)
        for tool in OURS:
            if tool in processes:
                processes[tool].about = processes[tool].ask(order, 120.0)
        yield processes


def plan(case: Case, tools: list[str], quick: bool, draw: random.Random) -> list[tuple[str, float]]:
    """Which tool meters a window of which length, in random order."""
    ours, peers = (QUICK_OURS, QUICK_PEERS) if quick else (REPEATS_OURS, REPEATS_PEERS)
    chosen = [
        (tool, length_s)
        for tool in tools
        for length_s in case.lengths_s
        for _ in range((ours if tool in OURS else peers).get(length_s, 0) // (1 + case.fails))
    ]
    draw.shuffle(chosen)
    return chosen


def windows(case: Case, host: Host, process: Process, length_s: float) -> list[Row]:
    """One window; where its last read is made to fail, a sound one after it."""
    order: dict[str, Any] = {"do": "window", "length_s": length_s}
    if case.wrap:
        power = case.counters[0].power
        before_j = power.idle_w * _UNTIL_BEGUN_S
        order["wrap_after_j"] = before_j + (power.idle_w + power.work_w) * length_s / 2
        zone = case.counters[0].zone
        order["watch"] = str(host.sysfs / "class/powercap" / zone / "energy_uj")
    if not case.fails:
        return [window(case, case.name, process, order)]
    sound = [window(case, f"after {case.name}", process, order) for _ in range(_SAYS_OF_A_FAULT)]
    return [window(case, case.name, process, order | {"blank": True}), *sound]


def window(case: Case, name: str, process: Process, order: dict[str, Any]) -> Row:
    """What the tool found beside what it was."""
    length_s, about = order["length_s"], process.about
    answer = about if "error" in about else process.ask(order, length_s + 60.0)
    truth_j = overhead_s = None
    if "stretch_s" in answer:
        if "duration_s" in answer:
            begin_s, end_s = answer["stretch_s"]
            overhead_s = answer["duration_s"] - (end_s - begin_s)
        truth_j = case.truth_j(
            about["domains"], tuple(answer["stretch_s"]), tuple(answer["work_s"])
        )
    return Row(
        case=name,
        tool=process.tool,
        length_s=length_s,
        truth_j=truth_j,
        energy_j=answer.get("energy_j"),
        half_width_j=answer.get("half_width_j"),
        systematic_j=answer.get("systematic_j", 0.0),
        limit_j=answer.get("limit_j"),
        overhead_s=overhead_s,
        wrapped=answer.get("wrapped"),
        error=answer.get("error"),
    )


if __name__ == "__main__":
    main()
