"""The page as one document: style and script inside, nothing fetched from anywhere.

Its policy (Content-Security-Policy) allows the one style sheet and the one script by their
hashes and forbids everything else, so that not even a name that slipped through the escaping
could load or run anything.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files

from cwmp.report.page import sections, study_sections
from cwmp.report.page.markup import Child, Markup, el, embedded
from cwmp.report.page.svg import MARKERS, Style, marker, styles_of
from cwmp.report.page.view import View


def page_of(view: View) -> str:
    """The whole page as HTML."""
    style, script = _asset("page.css"), _asset("page.js")
    charts: list[sections.Chart] = []
    body = _body(view, charts)
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    title = f"{view.name}: federated energy study"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", title),
        el("style", Markup(style)),
    )
    data = el("script", embedded({"charts": charts}), type="application/json", id="data")
    root = el("html", head, el("body", body, data, el("script", Markup(script))), lang="en")
    return f"<!DOCTYPE html>\n{root}\n"


def _body(view: View, charts: list[sections.Chart]) -> list[Child]:
    styles = styles_of([method.name if not method.control else "" for method in view.methods])
    main: list[Child] = []
    for number, scenario in enumerate(view.scenarios):
        accuracy, first = sections.accuracy(view, number, styles)
        certificate, second = sections.certificate(view, number, styles)
        charts += [*first, *second]
        main.append(
            el(
                "section", el("h2", scenario), accuracy, sections.phases(view, number),
                certificate, data_scenario=number,
            )
        )  # fmt: skip
    main += [
        study_sections.methods(view),
        study_sections.gains(view, styles),
        study_sections.layers(view),
        study_sections.provenance(view),
    ]
    return [
        el("a", "Skip to the results", href="#results", class_="skip"),
        _patterns(),
        el("header", el("h1", view.name), [el("p", line, class_="about") for line in view.about],
           [el("p", line, class_="verdict") for line in view.conclusions],
           study_sections.headline(view.tests),
           _folded(f"Every comparison in words ({len(view.details)})", view.details),
           _folded(f"What to hold against this ({len(view.warnings)})", view.warnings)),
        _bar(view, styles),
        el("main", main, id="results"),
        el("p", "", id="said", role="status", aria_live="polite", class_="said"),
        el("div", "", id="tip", hidden=True, aria_hidden="true"),
    ]  # fmt: skip


def _folded(heading: str, sentences: Sequence[str]) -> Markup | None:
    if not sentences:
        return None
    items = [el("li", sentence) for sentence in sentences]
    return el("details", el("summary", heading), el("ul", items))


def _bar(view: View, styles: Sequence[Style]) -> Markup:
    """Toggles that are the legend too; without the script they are the legend alone."""
    methods = [
        _toggle("m", place, method.label, _dash(styles[place]), pressed=not method.control)
        for place, method in enumerate(view.methods)
    ]
    budgets = [
        _toggle("b", place, budget or "none", _mark(place), pressed=True)
        for place, budget in enumerate(view.budgets)
    ]
    parts: list[Child] = [
        el("fieldset", el("legend", "Methods"), methods),
        el("fieldset", el("legend", "Budgets"), budgets),
    ]
    if len(view.scenarios) > 1:
        options = [el("option", "all settings", value="")]
        options += [el("option", name, value=i) for i, name in enumerate(view.scenarios)]
        select = el("select", options, id="scenario")
        parts.append(el("label", "Setting ", select, class_="pick needs-js"))
    theme = el("button", "Light or dark", type="button", id="theme", class_="needs-js")
    return el("nav", parts, theme, class_="bar", aria_label="What is shown")


def _toggle(kind: str, place: int, name: str, sign: Markup, *, pressed: bool) -> Markup:
    return el(
        "button", sign, name, type="button", data_toggle=kind, data_value=place,
        aria_pressed="true" if pressed else "false", disabled=True,
    )  # fmt: skip


def _dash(style: Style) -> Markup:
    path = el("path", d="M0 6L26 6", class_="curve", stroke_dasharray=style.dash)
    css = f"swatch {style.css}"
    return el("svg", path, class_=css, width=26, height=12, aria_hidden="true")


def _mark(place: int) -> Markup:
    sign = marker(MARKERS[place % len(MARKERS)], 7.0, 6.0, 5.0, "end")
    return el("svg", sign, class_="swatch", width=14, height=12, aria_hidden="true")


def _patterns() -> Markup:
    """Fills that tell origins apart without colour."""
    hatch = el(
        "pattern", el("path", d="M-1 7L7 -1M-1 1L1 -1M5 7L7 5"), id="hatch", width=6, height=6,
        patternUnits="userSpaceOnUse",
    )  # fmt: skip
    dots = el(
        "pattern", el("circle", cx=2.5, cy=2.5, r=1.1), id="dots", width=5, height=5,
        patternUnits="userSpaceOnUse",
    )  # fmt: skip
    defs = el("defs", hatch, dots)
    return el("svg", defs, width=0, height=0, aria_hidden="true", class_="swatch")


def _digest(content: str) -> str:
    return f"sha256-{b64encode(sha256(content.encode()).digest()).decode()}"


def _asset(name: str) -> str:
    return files("cwmp.report.page").joinpath(name).read_text(encoding="utf-8")
