"""A predicted gain as one plain sentence: what to do on this device."""

from __future__ import annotations

from cwmp.gain.predict import PredictedGain

WORTH = 1.01
"""Below this ratio the choice of selector does not matter."""
_ROUGH = 0.05


def advise(gain: PredictedGain) -> str:
    """Whether to use CWMP at this budget, and what its gain rests on.

    A gain of fixed costs is one of leaving small layers closed. Where the intervals allow one
    c for all layers, nothing is promised of the spread of c.
    """
    verdict = _verdict(gain)
    if gain.topk_captured < _ROUGH * gain.total and gain.gain > 2:
        verdict += (
            " The ratio is rough: Top-K captures so little here that a layer more or less decides."
        )
    return verdict


def _verdict(gain: PredictedGain) -> str:
    low = gain.gain if gain.ratio.low is None else gain.ratio.low
    worth, by_fixed = gain.gain >= WORTH, gain.fixed is not None and gain.fixed >= WORTH
    if gain.flat:
        flat = "Costs are flat within their intervals: CWMP cannot gain beyond fixed costs"
        if not by_fixed or not worth:
            return f"{flat}, and those give less than 1 %: use Top-K."
        return f"{flat}; leaving layers closed that are not worth opening gives {_times(gain)}."
    if not worth:
        return "Use Top-K: CWMP is expected to gain less than 1 % here."
    if low < WORTH:
        return (
            f"Not settled: CWMP is expected to capture {_times(gain)}, but within the intervals of "
            "the costs it may gain less than 1 %; measure longer."
        )
    return f"Use CWMP: it is expected to capture {_times(gain)}{_source(gain)}."


def _source(gain: PredictedGain) -> str:
    if gain.marginal is None or gain.fixed is None:
        return ""
    if gain.marginal.value < WORTH <= gain.fixed:
        return ", by leaving layers closed that are not worth opening"
    if gain.fixed < WORTH <= gain.marginal.value:
        return ", by taking entries where they are cheap"
    return ", by taking entries where they are cheap and leaving layers closed"


def _times(gain: PredictedGain) -> str:
    return f"{gain.gain:.3g} times what Top-K captures"
