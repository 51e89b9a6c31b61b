"""The page in a real browser: it loads nothing else, and hands, keys and print all work."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_ins.browser import Browser, browser, browser_missing
from stand_ins.run_files import made_up_run, made_up_study, save_runs

from cwmp.report.page import View, load_study, page_of

pytestmark = pytest.mark.skipif(bool(browser_missing()), reason=browser_missing() or "there is one")

_SHOWN = (
    "return [...document.querySelectorAll(arguments[0])].filter(e => e.getClientRects().length)"
)
_EVIL = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, View]:
    folder = tmp_path_factory.mktemp("browser") / "study"
    made_up_study(folder, seeds=2, rounds=4)
    costs = folder / "costs/board.json"
    more = [
        made_up_run("topk", "20%", 0, costs=costs, rounds=4, control=_EVIL),
        made_up_run("topk", "20%", 0, costs=costs, rounds=4, alpha=0.5),
    ]
    save_runs(folder, more)
    view = load_study(folder)
    path = folder / "report.html"
    path.write_text(page_of(view))
    return path, view


@pytest.fixture
def page(chrome: Browser, study: tuple[Path, View]) -> Browser:
    chrome.devtools("Emulation.setEmulatedMedia", media="")
    chrome.devtools("Emulation.setScriptExecutionDisabled", value=False)
    chrome.resize(1180, 800)
    chrome.requests()
    chrome.log("browser")
    chrome.open(study[0])
    return chrome


def _count(page: Browser, selector: str) -> int:
    return len(page.run(_SHOWN, selector))


def test_it_asks_for_nothing_and_complains_of_nothing(
    page: Browser, study: tuple[Path, View]
) -> None:
    asked = [url for url in page.requests() if url != study[0].absolute().as_uri()]
    assert asked == []
    assert page.log("browser") == []
    assert page.run("return document.title") == "Made-up study: federated energy study"
    assert page.run("return document.querySelectorAll('img').length") == 0
    assert page.run("return document.querySelectorAll('script').length") == 2


def test_what_would_run_or_load_is_refused(page: Browser) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x.png"
        page.run(
            "const s = document.createElement('script'); s.textContent = 'window.owned = 1';"
            "document.body.append(s); const i = new Image(); i.src = arguments[0];"
            "document.body.append(i); fetch(arguments[0]).catch(() => 0)",
            address,
        )
        with pytest.raises(TimeoutError):
            server.accept()
    assert page.run("return window.owned === undefined")
    complaints = " ".join(entry["message"] for entry in page.log("browser"))
    assert "Content Security Policy" in complaints


def test_a_method_is_toggled_by_hand_and_by_key(page: Browser) -> None:
    selector = "#accuracy-0-svg .variant:not(.off) .series .curve"
    assert _count(page, selector) == 7
    front = "return document.querySelector('#accuracy-0-svg .front').getAttribute('d')"
    before = page.run(front)
    button = "[data-toggle=m][data-value='3']"
    assert page.run("return document.querySelector(arguments[0]).textContent", button) == "dense"
    page.click(button)
    assert page.run("return document.querySelector(arguments[0]).ariaPressed", button) == "false"
    assert _count(page, selector) == 6
    assert page.run(front) != before
    assert page.run("return document.getElementById('said').textContent") == "dense hidden"
    page.press("Enter")  # the button has the focus
    assert _count(page, selector) == 7
    assert page.run(front) == before
    page.click("[data-toggle=b][data-value='0']")
    assert _count(page, selector) == 4


def test_the_front_drawn_by_the_script_is_the_one_in_the_document(
    page: Browser, study: tuple[Path, View]
) -> None:
    drawn = page.run("return document.querySelector('#accuracy-0-svg .front').getAttribute('d')")
    written = re.findall(r'<path d="([^"]*)" class="front"/>', study[0].read_text())[0]
    got, expected = _numbers(drawn), _numbers(written)
    assert got == pytest.approx(expected, abs=0.02)


def _numbers(path: str) -> list[float]:
    return [float(text) for text in re.findall(r"[\d.]+", path)]


def test_controls_start_hidden_and_can_be_shown(page: Browser) -> None:
    button = "[data-toggle=m][data-value='4']"
    assert page.run("return document.querySelector(arguments[0]).ariaPressed", button) == "false"
    selector = "#accuracy-0-svg .variant:not(.off) .series[data-m='4'] .curve"
    assert _count(page, selector) == 0
    page.click(button)
    assert _count(page, selector) == 1


def test_axes_switch(page: Browser) -> None:
    ticks = "return [...document.querySelectorAll('#accuracy-0-svg .axis-x .tick')].filter("
    ticks += "e => e.getClientRects().length).map(e => e.textContent)"
    logarithmic = page.run(ticks)
    page.click("button[data-figure='accuracy-0'][data-variant=linear]")
    assert page.run(ticks) != logarithmic
    assert _count(page, "#accuracy-0-svg g.variant[data-variant=log]") == 0
    page.click("button[data-figure='phases-0'][data-variant=exchange]")
    assert _count(page, "#phases-0-svg g.variant[data-variant=exchange] .series") == 7


def test_keys_walk_over_points_and_say_them(page: Browser, study: tuple[Path, View]) -> None:
    page.run("document.getElementById('accuracy-0-chart').focus()")
    page.press("ArrowRight")
    said = page.run("return document.getElementById('said').textContent")
    first = study[1].curves[0].points[0]
    assert said.startswith("CWMP 20%: round 1, ")
    assert f"{100 * first.accuracy.mean:.4g}" in said
    assert _count(page, "#tip") == 1
    page.press("End")
    assert "round 4" in page.run("return document.getElementById('tip').textContent")
    page.press("ArrowDown")
    said = page.run("return document.getElementById('said').textContent")
    assert said.startswith("CWMP 50%: round 4")
    page.press("Escape")
    assert _count(page, "#tip") == 0
    page.run("document.getElementById('phases-0-chart').focus()")
    page.press("ArrowDown")
    assert "train: " in page.run("return document.getElementById('said').textContent")


def test_the_focus_is_seen_and_goes_through_the_controls(page: Browser) -> None:
    seen = []
    for _ in range(6):
        page.press("Tab")
        seen.append(
            page.run(
                "const s = getComputedStyle(document.activeElement);"
                "return [document.activeElement.textContent, s.outlineStyle, s.outlineWidth]"
            )
        )
    texts = [text for text, *_ in seen]
    assert texts[0] == "Skip to the results"
    assert 0 < texts.index("CWMP") < texts.index("Top-K")
    assert all(style == "solid" and width == "3px" for _, style, width in seen)


def test_hovering_a_point_says_its_values(page: Browser) -> None:
    page.run("document.getElementById('accuracy-0').scrollIntoView()")
    at: Any = page.run(
        "const r = document.querySelector('#accuracy-0-svg .series[data-m=\"3\"] .end')"
        ".getBoundingClientRect(); return [r.left + r.width / 2, r.top + r.height / 2]"
    )
    page.hover(*at)
    assert page.run("return document.getElementById('tip').textContent").startswith(
        "dense: round 4"
    )
    page.hover(2, 2)
    assert _count(page, "#tip") == 0


def test_one_setting_can_be_picked(page: Browser) -> None:
    assert _count(page, "section[data-scenario]") == 2
    page.run(
        "const s = document.getElementById('scenario'); s.value = '1';"
        "s.dispatchEvent(new Event('change'))"
    )
    assert _count(page, "section[data-scenario]") == 1


@pytest.mark.parametrize("width", [360, 1180])
def test_no_width_scrolls_sideways(page: Browser, width: int) -> None:
    page.resize(width, 800)
    assert page.run("return document.documentElement.scrollWidth") <= width


def test_print_is_light_and_leaves_controls_out(page: Browser) -> None:
    page.run("document.documentElement.dataset.theme = 'dark'")
    colour = "return getComputedStyle(document.body).backgroundColor"
    assert page.run(colour) == "rgb(22, 23, 26)"
    page.devtools("Emulation.setEmulatedMedia", media="print")
    assert page.run(colour) == "rgb(255, 255, 255)"
    assert _count(page, ".controls") == _count(page, "#theme") == _count(page, "details") == 0
    assert _count(page, "[data-toggle=m]") == 4  # the legend, without the hidden control


def test_it_reads_without_a_script(page: Browser, study: tuple[Path, View]) -> None:
    page.devtools("Emulation.setScriptExecutionDisabled", value=True)
    page.open(study[0])
    page.devtools("Emulation.setScriptExecutionDisabled", value=False)
    assert page.run("return document.documentElement.className") == ""
    assert _count(page, "#accuracy-0-svg .variant:not(.off) .curve") == 7
    assert _count(page, ".needs-js") == 0
    assert page.run("return document.querySelector('[data-toggle]').disabled")
