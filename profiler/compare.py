"""Two traces compared: which cells and which layers' costs differ, and by how much.

Cells are matched by operation, layer, k and pattern; the fitted a and c of E(k) = a + c k by
operation, layer and pattern, whatever k were measured. Cells are one family of comparisons, a and
c another; each is corrected on its own (see `profiler.contrasts`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from profiler.cell_sides import CellEstimate, CellKey, cells_of, line_sides
from profiler.contrasts import Contrast, Side, contrasts
from profiler.errors import InputError

if TYPE_CHECKING:
    from profiler.trace import Trace, TraceMetadata

_DESCRIBED = ("model", "device", "meter", "origin", "implementations", "scope", "assumptions")
_HOST = ("cpu", "governor", "kernel", "virtualisation", "logical_cpus", "usable_cpus")
Group = tuple[str, str, str]
"""Operation, layer, pattern."""
_SETTINGS = ("device", "threads", "window_s", "window", "precision")


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that the two traces' metadata do not agree in; ``None`` is absent."""

    name: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.

    Attributes:
        operation, layer, pattern: the cell's, or the fit's.
        quantity: ``k=46`` for a cell, ``a`` (J a call) or ``c`` (J per k) of a fit.
        contrast: joules, B against A.
        ratio_with_gain: the ratio's interval, widened by the gain errors of both meters;
            ``None`` where they cancel or are not known.
    """

    operation: str
    layer: str
    pattern: str
    quantity: str
    contrast: Contrast
    ratio_with_gain: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing two traces found.

    Attributes:
        metadata: what they were made with that is not the same; look here first.
        cells, fits: the two families.
        unmatched: cell -> why it could not be compared.
        same_gain: whether both are of one device, meter and set of rails, so that a gain error
            cancels in every ratio (if it was the same board).
        systematic: of A and B, the share of the energy by which its meter may be off; ``None``
            where the trace does not say.
        margin, level: as asked for.
        one_session: whether both hold the very same blocks: nothing was repeated.
    """

    metadata: tuple[Difference, ...]
    cells: tuple[Row, ...]
    fits: tuple[Row, ...]
    unmatched: Mapping[str, str]
    same_gain: bool
    systematic: tuple[float | None, float | None]
    margin: float
    level: float
    one_session: bool = False

    @property
    def layers_that_differ(self) -> tuple[str, ...]:
        """The layers with a cell that differs, in the order of the trace."""
        rows = (row for row in self.cells if row.contrast.differs)
        return tuple(dict.fromkeys(row.layer for row in rows))

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and text, for JSON."""
        document = asdict(self)
        for name in ("cells", "fits"):
            for row, plain in zip(getattr(self, name), document[name], strict=True):
                plain["verdict"] = row.contrast.verdict
        return document | {"layers_that_differ": list(self.layers_that_differ)}


def _one_session(a: Trace, b: Trace) -> bool:
    """Whether both are of one session, whatever files they were read from."""
    if (a.metadata.created_utc, a.metadata.seed) != (b.metadata.created_utc, b.metadata.seed):
        return False
    return bool(a.blocks["energy_j"].tolist() == b.blocks["energy_j"].tolist())


def compare_traces(
    a: Trace,
    b: Trace,
    *,
    margin: float = 0.05,
    level: float = 0.05,
    systematic: tuple[float | None, float | None] | None = None,
) -> Comparison:
    """Compare *b* with *a*, cell by cell and fit by fit.

    Args:
        a, b: two traces, of any devices.
        margin: ratios within 1 -+ margin count as agreement.
        level: the chance of a false finding in a family.
        systematic: the shares by which the two meters may be off, which then do not cancel; by
            default as the traces say, and where device and meter are of one kind they cancel.

    Raises:
        InputError: the traces share no cell that can be compared, or *margin*, *level* or a
            share is out of range.
    """
    gains = systematic or (_share(a.metadata), _share(b.metadata))
    if any(gain is not None and not 0 <= gain < 1 for gain in gains):
        raise InputError(f"a meter's gain error must be a share from 0 to 1, got {gains}")
    cells_a, cells_b = cells_of(a), cells_of(b)
    unmatched = _unmatched(cells_a, cells_b)
    matched: list[tuple[CellKey, Side, Side]] = []
    for key, cell in cells_a.items():
        if cell_name(key) not in unmatched and cell.side and (other := cells_b[key].side):
            matched.append((key, cell.side, other))
    if not matched:
        why = next((f" ({name}: {text})" for name, text in unmatched.items()), "")
        raise InputError(
            f"no cell (operation, layer, pattern, k) is in both traces{why}; profile the same "
            "model at the same densities"
        )
    same = systematic is None and _same_gain(a, b)
    groups = dict.fromkeys(key[:3] for key, *_ in matched)
    lines = [(group, line_sides(group, cells_a), line_sides(group, cells_b)) for group in groups]
    fitted = [
        (group, name, side_a, side_b)
        for group, one, two in lines
        if one is not None and two is not None
        for name, side_a, side_b in zip(("a", "c"), one, two, strict=True)
    ]

    def compared(family: Sequence[tuple[Group, str, Side, Side]]) -> tuple[Row, ...]:
        found = contrasts([(x, y) for *_, x, y in family], margin=margin, level=level)
        return tuple(
            Row(*group, name, contrast, _widened(contrast, None if same else gains))
            for (group, name, *_), contrast in zip(family, found, strict=True)
        )

    return Comparison(
        metadata=tuple(metadata_differences(a.metadata, b.metadata)),
        cells=compared([(key[:3], f"k={key[3]}", x, y) for key, x, y in matched]),
        fits=compared(fitted),
        unmatched=unmatched,
        same_gain=same,
        systematic=gains,
        margin=margin,
        level=level,
        one_session=_one_session(a, b),
    )


def metadata_differences(a: TraceMetadata, b: TraceMetadata) -> Iterator[Difference]:
    """What two sessions were made with that is not the same."""
    for name in _DESCRIBED:
        if getattr(a, name) != getattr(b, name):
            yield Difference(name, _plain(getattr(a, name)), _plain(getattr(b, name)))
    for title, one, two, names in (
        ("host", a.host, b.host, _HOST),
        ("software", a.software, b.software, sorted({*a.software, *b.software})),
        ("settings", a.settings, b.settings, _SETTINGS),
    ):
        for name in names:
            if one.get(name) != two.get(name):
                yield Difference(f"{title}: {name}", one.get(name), two.get(name))


def cell_name(key: CellKey) -> str:
    """``update conv1.weight random k=46``."""
    operation, layer, pattern, k = key
    return f"{operation} {layer} {pattern} k={k}"


def _unmatched(
    a: Mapping[CellKey, CellEstimate], b: Mapping[CellKey, CellEstimate]
) -> dict[str, str]:
    """Cell -> why it cannot be compared."""
    why = {}
    for key in [*a, *(key for key in b if key not in a)]:
        one, two = a.get(key), b.get(key)
        if one is None or two is None:
            why[cell_name(key)] = "only in B" if one is None else "only in A"
        elif one.signature != two.signature:
            why[cell_name(key)] = f"{one.signature[:2]} in A, {two.signature[:2]} in B"
        elif one.side is None or two.side is None:
            side = "A" if one.side is None else "B"
            why[cell_name(key)] = f"too few sound blocks in {side}"
    return why


def _same_gain(a: Trace, b: Trace) -> bool:
    def rails(trace: Trace) -> set[str]:
        return set(trace.blocks["rail"])

    one, two = a.metadata, b.metadata
    hosts = [meta.host.get("host_name") for meta in (one, two)]
    return (
        (one.device, one.meter) == (two.device, two.meter)
        and rails(a) == rails(b)
        and (None in hosts or hosts[0] == hosts[1])
    )


def _share(metadata: TraceMetadata) -> float | None:
    """The meter's gain error as the trace states it: the sum of its systematic terms."""
    terms = getattr(metadata, "systematic", None)
    if not terms:
        return None
    return float(sum(term.relative for term in terms))


def _widened(
    found: Contrast, gains: tuple[float | None, float | None] | None
) -> tuple[float, float] | None:
    """The ratio's interval if A's meter is off by its share, and B's by its own."""
    if gains is None or gains[0] is None or gains[1] is None or found.ratio_interval is None:
        return None
    low, high = found.ratio_interval
    down, up = (1 - gains[1]) / (1 + gains[0]), (1 + gains[1]) / (1 - gains[0])
    return min(low * down, low * up), max(high * down, high * up)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
