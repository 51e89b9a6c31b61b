"""Cost files of made-up joules, for tests that need one and not a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from costmodels.costfile import CostFile, Estimate, LayerCost, OperationCost, Piece
from profiler.layers import LayerInfo

NANO = 1e-9


def estimate(value: float, spread: float = 0.1) -> Estimate:
    return Estimate(value=value, low=value * (1 - spread), high=value * (1 + spread))


def line(
    operation: str,
    pattern: str,
    unit: str,
    *,
    a_j: float | None,
    c_j: float,
    payer: str = "client",
    origin: str = "modelled",
) -> OperationCost:
    return OperationCost.model_validate(
        {
            "operation": operation,
            "pattern": pattern,
            "unit": unit,
            "payer": payer,
            "origin": origin,
            "implementation": "cwmp.selectors.CostWeighted" if operation == "select" else "made up",
            "pieces": (Piece(a_j=None if a_j is None else estimate(a_j), c_j=estimate(c_j)),),
            "k_min": 1,
            "k_max": 1_000_000,
        }
    )


def cost_file(
    layers: Sequence[LayerInfo],
    *,
    entry_j: Callable[[int], float] = lambda number: 5 * NANO * (1 + 4 * (number % 3)),
    fixed_j: float | None = 200 * NANO,
    dense_share: float = 0.1,
    byte_j: float = 1 * NANO,
    origin: str = "modelled",
    train: bool = True,
    messages: Sequence[str] = ("encode", "send", "topk", "cwmp"),
) -> CostFile:
    """Costs that differ by the layer's number; what is left out is left out of the file."""
    priced = tuple(
        LayerCost(
            name=layer.name,
            kind=layer.kind,
            shape=layer.shape,
            dtype=layer.dtype,
            parameters=layer.parameters,
            operations=(
                line(
                    "update",
                    "random",
                    "entry",
                    a_j=fixed_j,
                    c_j=entry_j(number),
                    payer="receivers",
                    origin=origin,
                ),
                line(
                    "update",
                    "dense",
                    "entry",
                    a_j=None,
                    c_j=dense_share * entry_j(number),
                    payer="receivers",
                    origin=origin,
                ),
            ),
        )
        for number, layer in enumerate(layers)
    )
    message = {
        "encode": line("encode", "random", "entry", a_j=1e-6, c_j=3 * NANO, origin=origin),
        "send": line("send", "random", "byte", a_j=2e-6, c_j=byte_j, origin=origin),
        "topk": line("select", "topk", "entry", a_j=2e-6, c_j=2 * NANO, origin=origin),
        "cwmp": line("select", "cwmp", "entry", a_j=4e-6, c_j=2 * NANO, origin=origin),
    }
    entries = sum(layer.parameters for layer in layers)
    step = line("train", "batch", "example", a_j=1e-4, c_j=1e-5, origin=origin)
    whole = LayerCost(
        name="*",
        kind="model",
        shape=(entries,),
        dtype="float32",
        parameters=entries,
        operations=(step,),
    )
    return CostFile(
        created_utc="2026-01-01T00:00:00Z",
        device="made-up device",
        meter="made-up meter",
        origin=origin,  # type: ignore[arg-type]
        model="made-up model",
        basis="made up for tests",
        layers=priced,
        modules=(whole,) if train else (),
        message=tuple(message[name] for name in messages),
    )
