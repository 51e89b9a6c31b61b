"""``cwmp predict-gain``: whether CWMP is worth it on a device, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING, Any

import click

from profiler.console import (
    ExampleCommand,
    force_option,
    json_option,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from costmodels.costfile import CostFile
    from cwmp.gain.predict import PredictedGain, Ratio

    Found = list[tuple[str, PredictedGain]]

_EPILOG = """
cwmp predict-gain costs.json --budget 55% --budget 75%
cwmp predict-gain costs.json --update update.npz --map map.png
"""
_ONE_SCALE = (
    "The layers of a real update differ in scale, which may leave far less to win: give one with "
    "--update when you have it."
)


@click.command(cls=ExampleCommand, epilog=_EPILOG, no_args_is_help=True)
@click.argument("costs", type=click.Path(path_type=Path))
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    help="A share of the dense cost, or joules such as 2mJ; again for more.  "
    "[default: three that open a layer]",
)
@click.option(
    "--distribution",
    type=click.Choice(["laplace", "gaussian"]),
    help="Of an update's entries, one scale for all layers.  [default: laplace]",
)
@click.option(
    "--update",
    type=click.Path(path_type=Path),
    help="A real update in its place: .npz or .safetensors, one array a layer, or a "
    "sample of it of any size.",
)
@click.option("--draws", default=100, show_default=True, type=click.IntRange(min=0))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--map", "picture", type=click.Path(path_type=Path, dir_okay=False), help="A PNG to draw."
)
@force_option
@json_option
def predict_gain(
    costs: Path,
    budgets: tuple[str, ...],
    distribution: str | None,
    update: Path | None,
    draws: int,
    seed: int,
    picture: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Say what CWMP is expected to capture over Top-K at equal joules with COSTS.

    Nothing is trained or measured: the spread of the costs and the distribution of an
    update's entries decide. Intervals vary the costs within theirs, --draws times.
    """
    import numpy as np

    from costmodels.costfile import CostFile
    from cwmp import gain as gains
    from cwmp.commands.demo import choose_budgets
    from cwmp.update_file import load_update
    from profiler.errors import InputError
    from profiler.files import refuse_existing, write_atomic

    if distribution is not None and update is not None:
        raise InputError(
            "--update takes the place of --distribution: an update has a distribution of its own; "
            "give one of them"
        )
    if picture is not None:
        if picture.suffix.lower() != ".png":
            raise InputError(f"the map is a PNG, not {picture.name!r}: end its name in .png")
        refuse_existing(picture, force=force)
    prices = CostFile.load(costs)
    entries: Any = distribution or "laplace" if update is None else load_update(update)
    found: Found = []
    for budget in budgets or choose_budgets(prices, 3) or ["100%"]:
        generator = np.random.default_rng(seed) if draws else None
        made = gains.predict_gain(prices, entries, budget, generator=generator, draws=draws)
        found.append((budget, made))
    drawn = None if picture is None else _draw(prices, found)
    if picture is not None and drawn is not None:
        write_atomic(picture, drawn, force=force)
        say(f"wrote {picture}")
    if as_json:
        print_json(_document(prices, found))
    else:
        _print(prices, found, real=update is not None)


def _draw(prices: CostFile, found: Found) -> bytes:
    from cwmp.gain.regime import device_point
    from cwmp.report.regime import draw_map
    from cwmp.selectors.fit import prepared

    costs = prepared(prices)
    caption = (
        f"Maps: Laplace-distributed entries, one scale. Right: the {len(costs.layers)} layers of "
        f"{prices.model}, sparse form alone. Points: {prices.device} ({prices.origin}), by budget, "
        f"% of the dense cost, and what is predicted there, dense form and bytes included "
        f"({found[0][1].basis})."
    )
    points = [device_point(costs, gain, budget) for budget, gain in found]
    return draw_map([layer.parameters for layer in costs.layers], points, caption)


def _print(prices: CostFile, found: Found, *, real: bool) -> None:
    from cwmp.gain.advice import advise

    rows = [
        [
            budget,
            _percent(gain.density),
            _percent(gain.topk_captured / gain.total),
            _percent(gain.captured / gain.total),
            _percent(gain.bound / gain.total),
            _ratio(gain.ratio),
            *("-" if part is None else _number(part) for part in _parts(gain)),
        ]
        for budget, gain in found
    ]
    intervals = any(gain.ratio.low is not None for _, gain in found)
    print_table(
        f"{prices.model} on {prices.device} ({prices.origin})",
        ["budget", "kept", "Top-K", "CWMP", "bound", "gain", "by c", "by fixed"],
        rows,
    )
    width = min(get_terminal_size().columns, 100)
    notes = [
        f"Entries: {found[0][1].basis}. kept: entries that Top-K sends. Top-K, CWMP, bound: share "
        "of the sum of g^2 captured, and the most that any selection captures. gain: CWMP over "
        "Top-K at equal joules; by c: what the spread of marginal costs gives of it; by fixed: "
        "what fixed costs give."
        + (" Brackets: 95 %, costs varied within their intervals." if intervals else ""),
        *([] if real else [_ONE_SCALE]),
        "",
        *(f"{budget}: {advise(gain)}" for budget, gain in found),
    ]
    for note in notes:
        click.echo(fill(note, width))


def _parts(gain: PredictedGain) -> tuple[float | None, float | None]:
    return None if gain.marginal is None else gain.marginal.value, gain.fixed


def _ratio(ratio: Ratio) -> str:
    if ratio.low is None or ratio.high is None:
        return _number(ratio.value)
    return f"{_number(ratio.value)} [{_number(ratio.low)}, {_number(ratio.high)}]"


def _number(ratio: float) -> str:
    return f"{ratio:.3f}" if ratio < 9.9995 else f"{ratio:.1f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2g} %"


def _document(prices: CostFile, found: Found) -> dict[str, Any]:
    from dataclasses import asdict

    from cwmp.gain.advice import advise

    return {
        "model": prices.model,
        "device": prices.device,
        "origin": prices.origin,
        "budgets": [
            {
                "budget": budget,
                "gain": gain.gain,
                **asdict(gain),
                "flat": gain.flat,
                "advice": advise(gain),
            }
            for budget, gain in found
        ],
    }
