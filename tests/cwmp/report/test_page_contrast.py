"""What is written can be read: contrast of text (WCAG 2.2, 1.4.3) and of curves (1.4.11)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from stand_ins.browser import Browser, browser, browser_missing
from stand_ins.run_files import made_up_run, made_up_study, save_runs

from cwmp.report.page import load_study, page_of

TEXT, GRAPHIC = 4.5, 3.0
_CSS = files("cwmp.report.page").joinpath("page.css").read_text(encoding="utf-8")
_ALWAYS: dict[str, str] = dict(re.findall(r"--(\w+):\s*(#[0-9a-f]{6})", _CSS))
_PAIRS = {
    name: (light, dark)
    for name, light, dark in re.findall(
        r"--(\w+):\s*light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", _CSS
    )
}


def luminance(colour: tuple[float, float, float]) -> float:
    """Relative luminance of sRGB in 0..1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lights = sorted(
        luminance(tuple(int(each[i : i + 2], 16) / 255 for i in (1, 3, 5)))  # type: ignore[arg-type]
        for each in (one, other)
    )
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _theme(dark: bool) -> dict[str, str]:
    return {**_ALWAYS, **{name: pair[dark] for name, pair in _PAIRS.items()}}


def test_the_formula_is_the_known_one() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)


def test_browsers_without_light_dark_get_the_light_theme() -> None:
    assert {name: light for name, (light, _) in _PAIRS.items()}.items() <= _ALWAYS.items()


@pytest.mark.parametrize("dark", [False, True])
def test_text_colours_of_the_style_sheet(dark: bool) -> None:
    theme = _theme(dark)
    for ink in ("ink", "soft", "warn"):
        for ground in ("paper", "panel"):
            assert contrast(theme[ink], theme[ground]) >= TEXT, (ink, ground)


@pytest.mark.parametrize("dark", [False, True])
def test_curves_stand_out_from_the_paper(dark: bool) -> None:
    theme = _theme(dark)
    for number in range(8):
        assert contrast(theme[f"c{number}"], theme["paper"]) >= GRAPHIC, number


_FAINT = """
const rgba = (text) => { const v = text.match(/[\\d.]+/g).map(Number); return v.length > 3 ? v : [...v, 1]; };
const light = (c) => { const l = c.slice(0, 3).map((v) => v / 255)
  .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2]; };
const over = (top, share, ground) => top.slice(0, 3).map((v, i) => v * share + ground[i] * (1 - share));
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = []; let seen = 0;
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const element = node.parentElement;
  if (!node.textContent.trim() || !element.getClientRects().length) continue;
  if (element.closest("script, style, title, desc, .said, .skip")) continue;
  const style = getComputedStyle(element);
  const ink = rgba(element.closest("svg") ? style.fill : style.color);
  let share = ink[3]; let ground = null;
  for (let e = element; e; e = e.parentElement) {
    const own = getComputedStyle(e);
    share *= Number(own.opacity);
    const back = rgba(own.backgroundColor);
    if (!ground && back[3] > 0) ground = back;
  }
  const a = light(over(ink, share, ground)) + 0.05; const b = light(ground) + 0.05;
  const ratio = Math.max(a, b) / Math.min(a, b);
  seen += 1;
  if (ratio < arguments[0]) found.push([node.textContent.trim(), element.outerHTML.slice(0, 80), ratio]);
}
return [seen, found];
"""  # noqa: E501


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if browser_missing():
        pytest.skip(browser_missing())
    folder = tmp_path_factory.mktemp("contrast") / "study"
    made_up_study(folder, seeds=2, rounds=3)
    costs = folder / "costs/board.json"
    save_runs(folder, [made_up_run("topk", "20%", 0, costs=costs, rounds=3, control="uniform")])
    path: Path = folder / "report.html"
    path.write_text(page_of(load_study(folder)))
    with browser() as found:
        found.resize(1180, 800)
        found.open(path)
        yield found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_word_on_the_page_can_be_read(page: Browser, theme: str) -> None:
    page.run(
        "document.documentElement.dataset.theme = arguments[0];"
        "document.querySelectorAll('details').forEach((e) => { e.open = true; });"
        "const tip = document.getElementById('tip'); tip.hidden = false; tip.textContent = 'w';",
        theme,
    )
    seen, faint = page.run(_FAINT, TEXT)
    assert seen > 150
    assert faint == []
