"""Pieces of pictures that several share: frames with axes, marks, labels, captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cwmp.report.page.axes import Scale
from cwmp.report.page.markup import Child, Markup, el, number

MARKERS = ("circle", "square", "triangle", "diamond", "down", "cross")
COLOURS = 8
DASHES = (None, "7 3", "2 3", "9 3 2 3")
_COLOUR_OF = {"cwmp": 0, "topk": 1, "random": 2, "dense": 3}
_TICK = 78.0
"""Pixels that a tick of the horizontal axis and its words take."""
_NARROW = 600.0
_SPARE = (4, 5, 6, 7, 2, 1, 0, 3)


@dataclass(frozen=True, slots=True)
class Style:
    """How a method is drawn: class of its colour, and a dash where the colour is another's."""

    colour: int
    dash: str | None

    @property
    def css(self) -> str:
        return f"c{self.colour}"


def styles_of(names: Sequence[str]) -> list[Style]:
    """One style a method: no two share colour and dash (up to 32 methods).

    Args:
        names: as `cwmp.fl.algorithms.MethodName` writes them.
    """
    used: set[tuple[int, str | None]] = set()
    styles = []
    for name in names:
        wanted = _COLOUR_OF.get(name)
        order = _SPARE if wanted is None else (wanted,)
        free = ((colour, dash) for dash in DASHES for colour in order)
        colour, dash = next((pair for pair in free if pair not in used), (order[0], DASHES[-1]))
        used.add((colour, dash))
        styles.append(Style(colour, dash))
    return styles


@dataclass(frozen=True, slots=True)
class Box:
    """The inside of a picture's axes, in px."""

    left: float
    top: float
    right: float
    bottom: float


def horizontal_axis(
    box: Box, scale: Scale, show: Callable[[float], str], title: str, *, grid: bool = False
) -> Markup:
    """Ticks and title below the box."""
    parts: list[Child] = [line(box.left, box.bottom, box.right, box.bottom, "axis")]
    for tick in scale.ticks(max(2, int((box.right - box.left) / _TICK))):
        x = scale(tick)
        if grid:
            parts.append(line(x, box.top, x, box.bottom, "grid"))
        parts.append(line(x, box.bottom, x, box.bottom + 5, "axis"))
        parts.append(label(x, box.bottom + 19, show(tick), "tick middle"))
    middle = (box.left + box.right) / 2
    parts.append(label(middle, box.bottom + 40, title, "title middle"))
    return el("g", parts, class_="axis-x")


def vertical_axis(box: Box, scale: Scale, show: Callable[[float], str], title: str) -> Markup:
    """Ticks, lines across the box, and the title above its left end."""
    parts: list[Child] = []
    for tick in scale.ticks():
        y = scale(tick)
        parts.append(line(box.left, y, box.right, y, "grid"))
        parts.append(label(box.left - 8, y + 4, show(tick), "tick end"))
    parts.append(label(0.0, box.top - 12, title, "title"))
    return el("g", parts, class_="axis-y")


def line(x1: float, y1: float, x2: float, y2: float, css: str, **more: object) -> Markup:
    """A straight line."""
    return el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=css, **more)


def label(x: float, y: float, content: object, css: str, **more: object) -> Markup:
    """Text whose base line is at *y*."""
    return el("text", content, x=x, y=y, class_=css, **more)


def polyline(points: Sequence[tuple[float, float]]) -> str:
    """The ``d`` of a path through *points*."""
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points) if points else ""


def marker(kind: str, x: float, y: float, size: float, css: str, **more: object) -> Markup:
    """A mark around (x, y), about as large in area whatever its kind."""
    if kind == "circle":
        return el("circle", cx=x, cy=y, r=size, class_=css, **more)
    s = size
    shapes = {
        "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        "triangle": [(0, -1.25), (1.1, 0.75), (-1.1, 0.75)],
        "down": [(0, 1.25), (1.1, -0.75), (-1.1, -0.75)],
        "diamond": [(0, -1.3), (1.1, 0), (0, 1.3), (-1.1, 0)],
        "cross": [(-1.2, -0.4), (-0.4, -0.4), (-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4),
                  (1.2, 0.4), (0.4, 0.4), (0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4)],
    }  # fmt: skip
    d = polyline([(x + s * dx, y + s * dy) for dx, dy in shapes[kind]]) + "Z"
    return el("path", d=d, class_=css, **more)


def picture(
    identity: str, width: float, height: float, title: str, description: str, *content: Child
) -> Markup:
    """An SVG with the title and description that a screen reader reads in its place."""
    return el(
        "svg",
        el("title", title, id=f"{identity}-title"),
        el("desc", description, id=f"{identity}-desc"),
        content,
        id=f"{identity}-svg",
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=width,
        height=height,
        class_="narrow" if width < _NARROW else None,
        role="img",
        aria_labelledby=f"{identity}-title {identity}-desc",
    )


def figure(
    identity: str,
    heading: str,
    drawing: Markup,
    caption: Child,
    table: Markup,
    *,
    controls: Child = None,
    key: Child = None,
    wide: bool = False,
    **attributes: object,
) -> Markup:
    """A picture with its controls, what it says, and its numbers as a table.

    Args:
        key: what its colours and fills mean, as items of a list.
        wide: the picture has points that arrow keys walk over: it takes the focus.
    """
    keys = "arrow keys walk over its points" if wide else "scroll it with arrow keys"
    frame = el(
        "div", drawing, class_="chart", id=f"{identity}-chart", tabindex=0, role="group",
        aria_label=f"{heading}: {keys}",
    )  # fmt: skip
    return el(
        "figure",
        el("h3", heading),
        el("div", controls, class_="controls needs-js") if controls else None,
        el("ul", key, class_="key") if key else None,
        frame,
        el("figcaption", caption),
        el("details", el("summary", "The numbers as a table"), table),
        id=identity,
        **attributes,
    )


def switch(identity: str, variants: Sequence[tuple[str, str]]) -> Markup:
    """Buttons of which one is pressed: which variant of a picture is shown."""
    return el(
        "span",
        [
            el(
                "button", shown, type="button", data_figure=identity, data_variant=name,
                aria_pressed="true" if place == 0 else "false",
            )
            for place, (name, shown) in enumerate(variants)
        ],
        class_="switch",
        role="group",
        aria_label="Scale",
    )  # fmt: skip


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Child]],
    *,
    attributes: Sequence[dict[str, object]] = (),
) -> Markup:
    """A table whose first column names its rows."""
    body = []
    for number_, row in enumerate(rows):
        cells = [el("th", row[0], scope="row"), *(el("td", cell) for cell in row[1:])]
        body.append(el("tr", cells, **(attributes[number_] if attributes else {})))
    head = el("thead", el("tr", [el("th", column, scope="col") for column in columns]))
    inner = el("table", el("caption", caption), head, el("tbody", body))
    return el("div", inner, class_="scroll", tabindex=0, role="group", aria_label=caption)
