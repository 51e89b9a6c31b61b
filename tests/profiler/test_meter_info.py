"""What a meter says of itself: rails that overlap, and errors that are known or not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profiler.errors import InputError
from profiler.meters.base import MeterInfo, Rail, Systematic

RAILS = (
    Rail("package-0", "package"),
    Rail("package-1", "package"),
    Rail("core-0", "core", False, "lies inside package-0"),
    Rail("mmio-package-0", "package", False, "shows package-0's counter"),
    Rail("psys", "psys", False, "contains the packages"),
    Rail("board", "board", False, "may contain package-0"),
)


def _info(*selected: str, **changes: object) -> MeterInfo:
    return replace(MeterInfo("rapl", "cpu", "measured", RAILS, selected), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("selected", "told"),
    [
        (("package-0", "package-1"), ()),
        (("package-1", "core-0"), ()),
        (
            ("package-0", "core-0"),
            ("core-0 lies inside package-0; package-0 is added too: counted twice",),
        ),
        (
            ("package-0", "mmio-package-0"),
            ("mmio-package-0 shows package-0's counter; package-0 is added too: counted twice",),
        ),
        (
            ("psys", "package-0", "package-1"),
            ("psys contains the packages; package-0 + package-1 are added too: counted twice",),
        ),
        (
            ("package-0", "board"),
            ("board may contain package-0; package-0 is added too: may be counted twice",),
        ),
    ],
)
def test_selected_rails_that_overlap_are_told(
    selected: tuple[str, ...], told: tuple[str, ...]
) -> None:
    info = _info(*selected)
    assert info.scope == told
    assert replace(info, lag_s=1.0).scope == told


def test_an_unknown_gain_is_unknown_and_not_nothing() -> None:
    unknown = _info("package-0")
    assert unknown.systematic_share is None and unknown.systematic_j(10.0, 1.0) is None
    assert unknown.systematic_sentences == ("unknown (nothing is published of this meter's gain)",)
    modelled = _info("package-0", origin="modelled")
    assert (modelled.systematic_share, modelled.systematic_j(10.0, 1.0)) == (0.0, 0.0)
    assert modelled.systematic_sentences == ()


def test_an_offset_is_watts_beside_the_share() -> None:
    terms = (Systematic(0.05, "gain"), Systematic(0.0, "offset", 0.3), Systematic(0.01, "both", 2))
    info = _info("package-0", systematic=terms)
    assert info.systematic_share == pytest.approx(0.06)
    assert info.systematic_j(-100.0, 10.0) == pytest.approx(6.0 + 23.0)
    assert info.systematic_sentences == (
        "+- 5 % (gain)",
        "+- 0.3 W (offset)",
        "+- 1 % +- 2 W (both)",
    )


@pytest.mark.parametrize("bounds", [(0.0, 0.0), (-0.1, 1.0), (0.1, -1.0), (0.0, float("inf"))])
def test_a_term_that_bounds_nothing_is_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="systematic term"):
        Systematic(bounds[0], "cause", bounds[1])
