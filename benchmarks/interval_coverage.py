"""Do the intervals hold? Whole sessions on a simulated board whose truth is known.

    python benchmarks/interval_coverage.py [--quick] [--runs 4000] [--settings 'rapl;nvml']
                                           [--json FILE]

Each run is a session of `profiler.stages` (sizing, pilot, Stein's rule, main blocks) on a
`simulated_board`, from its probe to its fitted lines; only time and power are simulated. Counted is
how often the 95 % intervals of a and c in E(k) = a + c k hold the truth, the bias of all estimates,
negative ones included, and whether anything printed is negative or a bare 0.

A block's true cost is the nominal length of a call times the power at its time: what is drawn at
rest, with its drift, its noise where that is as slow as a session, and the other load's mean, plus
what work adds. The truth of a run is what its own weighted lines make of the true costs: a session
tells what a call cost while it ran, not what the machine will draw at rest tomorrow. Hard cases are
shown apart: noise that changes about as fast as blocks follow each other, where intervals of the
long-run mean are too narrow; noise as slow as a session, whose blocks see so much of it that
intervals of its mean are a little too wide; and a layer that scatters more than its siblings.

Not in it: time limits, resumed sessions, several rails, sampled power, temperature, cells of one k,
and the knee of a line.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from math import sqrt
from pathlib import Path

import numpy as np
from simulated_board import Board, BoardProfile, KnownLine, Layer, probed

from costmodels.curves import Quantity
from cwmp.profile_summary import quantity_text
from profiler import design, evidence
from profiler.findings import Findings
from profiler.pace import Pace
from profiler.stages import Session, Settings
from profiler.statistics import Line

COUNTS = (100, 1_000, 10_000)
ONE_LAYER = (("layer", 5e-6, 2e-9),)
FOUR_LAYERS = tuple((f"layer{n}", 5e-6 * n, 2e-9 / n) for n in (1, 2, 3, 4))
UNLIKE = (*FOUR_LAYERS[:3], (*FOUR_LAYERS[3], 0.03))
FAINT = (("layer", 5e-6, 2e-12),)
NVML = {"quantum_j": 1e-3, "idle_w": 70.0, "work_w": 180.0}
LOWEST, HIGHEST, LARGEST_BIAS = 0.94, 0.96, 0.005


@dataclass(frozen=True)
class Setting:
    """A board, the layers measured on it, and the precision asked for."""

    name: str
    board: BoardProfile
    layers: tuple[Layer, ...] = ONE_LAYER
    precision: float = 0.05


RAPL = BoardProfile(period_s=1e-3, jitter=0.19, quantum_j=2.0**-14)
SETTINGS = (
    Setting("rapl: 1 ms, jitter as on Ice Lake", RAPL),
    Setting("rapl, four layers, short pilot", RAPL, FOUR_LAYERS),
    Setting("rapl, slope below detection", RAPL, FAINT),
    Setting("rapl, AR(1) noise, 3 W over 10 ms", replace(RAPL, noise_w=3.0, noise_s=0.01)),
    Setting("rapl, warm-up drift of 20 %", replace(RAPL, drift=0.2, noise_w=1.0, noise_s=0.01)),
    Setting(
        "rapl, other load, 10 W for 2 of 20 ms",
        replace(RAPL, load_w=10.0, load_on_s=0.002, load_off_s=0.018),
    ),
    Setting("rapl, throttled a tenth of the time", replace(RAPL, throttle_on_s=0.3)),
    Setting("nvml: 20 ms", BoardProfile(period_s=0.02, **NVML)),
    Setting("nvml: 100 ms", BoardProfile(period_s=0.1, **NVML)),
    Setting(
        "nvml: 100 ms, drift and AR(1) noise",
        BoardProfile(period_s=0.1, drift=0.1, drift_s=60.0, noise_w=5.0, noise_s=0.2, **NVML),
    ),
    Setting(
        "nvml: 100 ms, other load and throttle",
        BoardProfile(
            period_s=0.1,
            load_w=30.0,
            load_on_s=0.05,
            load_off_s=0.5,
            throttle_on_s=2.0,
            throttle_off_s=20.0,
            **NVML,
        ),
    ),
    Setting("hard: one layer in four scatters 3-fold", RAPL, UNLIKE),
    Setting("hard: AR(1) noise as slow as sessions", replace(RAPL, noise_w=2.0, noise_s=2.0)),
    Setting("hard: AR(1) noise as slow as blocks", replace(RAPL, noise_w=3.0, noise_s=0.05)),
    Setting(
        "hard: other load in bursts as long",
        replace(RAPL, load_w=10.0, load_on_s=0.02, load_off_s=0.1),
    ),
)


@dataclass(frozen=True)
class Outcome:
    """One fitted line against the truth; ``shown`` is how its two estimates are printed."""

    layer: str
    a: float
    c: float
    true_a: float
    true_c: float
    covered_a: bool
    covered_c: bool
    half_a: float
    half_c: float
    blocks: int
    dropped: int
    seconds: float
    shown: tuple[str, str]


def main() -> None:
    """Simulate, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description="Count how often the intervals hold.")
    parser.add_argument("--quick", action="store_true", help="400 runs a setting")
    parser.add_argument("--runs", type=int, default=4000, help="a setting")
    parser.add_argument("--settings", default="", help="names that begin so, joined by ;")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    runs = 400 if arguments.quick else arguments.runs
    starts = tuple(arguments.settings.split(";"))
    chosen = [setting for setting in SETTINGS if setting.name.startswith(starts)]
    print(f"95 % intervals of {runs} sessions a setting; asked: 94 to 96 %, bias below 0.5 %")
    documents = []
    for setting in chosen:
        begin_s = time.perf_counter()
        document = summarise(setting, simulate(setting, runs))
        documents.append(document)
        print(line(document), f"[{time.perf_counter() - begin_s:.0f} s]", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(documents, indent=1) + "\n")


def simulate(setting: Setting, runs: int) -> list[Outcome]:
    """All lines of *runs* sessions, over all cores."""
    shares = np.array_split(np.arange(runs), 4 * (os.cpu_count() or 1))
    with ProcessPoolExecutor() as pool:
        parts = pool.map(_sessions, [setting] * len(shares), [share.tolist() for share in shares])
        return [outcome for part in parts for outcome in part]


def _sessions(setting: Setting, seeds: Iterable[int]) -> list[Outcome]:
    return [outcome for seed in seeds for outcome in session(setting, seed)]


def session(setting: Setting, seed: int) -> list[Outcome]:
    """One whole session, and what it found for each layer."""
    board = Board(setting.board, seed)
    gauge, found = probed(board)
    operation = KnownLine(board, setting.layers, COUNTS)
    cells = [(operation, cell) for cell in operation.cells()]
    pilot = design.pilot_counts(operation.cells()).tolist()
    settings = Settings(
        seed=seed,
        precision=setting.precision,
        window_s=Pace.of(gauge).window_s(pilot, None),
        idle_power_w=found.idle_power_w,
    )
    run = Session(cells, gauge, settings, clock=board.clock)
    run.run()
    return list(_outcomes(run, operation, board))


def _outcomes(run: Session, operation: KnownLine, board: Board) -> Iterable[Outcome]:
    """The lines through what was measured, beside the same lines through the truth."""
    sound = [record for record in run.blocks if not record.flags]
    seed = run.settings.seed
    measured, exact = Findings(run.cells), Findings(run.cells)
    for record in sound:
        measured.keep(record)
        exact.keep(replace(record, cost_j_per_call=operation.truth(seed, record.block)))
    for members in design.groups_of(run.cells).values():
        cells = [cell for n in members if (cell := measured.statistics(n)) is not None]
        known = [exact.cell_blocks(n).costs.mean() for n in members]
        truth = evidence.fit_cells(
            [replace(cell, mean=float(mean)) for cell, mean in zip(cells, known, strict=True)]
        )
        found = evidence.fit_cells(cells)
        assert found is not None and truth is not None
        layer, blocks = run.cells[members[0]].layer, sum(cell.blocks for cell in cells)
        yield _outcome(layer, found, truth, blocks, run, board)


def _outcome(
    layer: str, found: Line, truth: Line, blocks: int, run: Session, board: Board
) -> Outcome:
    (low_a, high_a), (low_c, high_c) = found.interval_a(), found.interval_c()
    return Outcome(
        layer,
        found.a,
        found.c,
        truth.a,
        truth.c,
        low_a <= truth.a <= high_a,
        low_c <= truth.c <= high_c,
        (high_a - low_a) / 2,
        (high_c - low_c) / 2,
        blocks,
        sum(run.dropped.values()),
        board.now_s,
        (
            quantity_text(Quantity(found.a, found.se_a, found.degrees_a), "J"),
            quantity_text(Quantity(found.c, found.se_c, found.degrees_c), "J"),
        ),
    )


def summarise(setting: Setting, outcomes: Sequence[Outcome]) -> dict[str, object]:
    """The figures of one setting."""
    count = len(outcomes)
    by_layer: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_layer.setdefault(outcome.layer, []).append(outcome)
    document: dict[str, object] = {
        "setting": setting.name,
        "board": asdict(setting.board),
        "precision": setting.precision,
        "lines": count,
        "blocks_a_line": float(np.mean([o.blocks for o in outcomes])),
        "dropped_a_session": float(np.mean([o.dropped for o in outcomes])),
        "simulated_s_a_session": float(np.mean([o.seconds for o in outcomes])),
        "printed_negative_or_bare_zero": sum(_bad(text) for o in outcomes for text in o.shown),
        "printed_below_detection": sum(text.startswith("<") for o in outcomes for text in o.shown),
    }
    for name in ("a", "c"):
        covered = np.mean([getattr(o, f"covered_{name}") for o in outcomes])
        value = np.array([getattr(o, name) for o in outcomes])
        true = np.array([getattr(o, f"true_{name}") for o in outcomes])
        half = np.array([getattr(o, f"half_{name}") for o in outcomes])
        document[name] = {
            "coverage": float(covered),
            "coverage_by_layer": {
                layer: float(np.mean([getattr(o, f"covered_{name}") for o in those]))
                for layer, those in by_layer.items()
            },
            "coverage_error": sqrt(float(covered * (1 - covered)) / count),
            "bias": float(np.mean(value / true) - 1),
            "bias_error": float(np.std(value / true) / sqrt(count)),
            "half_width": float(np.mean(half / true)),
        }
    return document


def _bad(text: str) -> bool:
    """Printed as a negative cost, or as one of nothing."""
    number = text.removeprefix("<").split()[0]
    return number.startswith("-") or float(number) == 0.0


def line(document: dict[str, object]) -> str:
    """One line of the table; what misses its target is marked."""
    parts = [f"{document['setting']:<38}"]
    for name in ("a", "c"):
        figures = document[name]
        assert isinstance(figures, dict)
        covered, bias = figures["coverage"], figures["bias"]
        inside = LOWEST <= covered <= HIGHEST
        resolved = figures["bias_error"] < LARGEST_BIAS / 2
        small = abs(bias) <= LARGEST_BIAS or not resolved
        said = f"{100 * bias:+.2f} +- {196 * figures['bias_error']:.2f} %" if resolved else "n/a"
        worst = min(figures["coverage_by_layer"].values())
        parts.append(
            f"{name}: {100 * covered:5.2f} % +- {196 * figures['coverage_error']:.2f}"
            f"{' ' if inside else '!'} (worst layer {100 * worst:.1f}) bias {said}"
            f"{' ' if small else '!'} width {100 * figures['half_width']:.1f} %"
        )
    parts.append(
        f"{document['blocks_a_line']:.0f} blocks, {document['simulated_s_a_session']:.0f} s, "
        f"{document['dropped_a_session']:.1f} dropped, "
        f"{document['printed_negative_or_bare_zero']} printed wrongly"
    )
    return "  ".join(parts)


if __name__ == "__main__":
    main()
