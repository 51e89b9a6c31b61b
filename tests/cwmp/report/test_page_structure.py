"""The page as a document: its numbers are the runs', and nothing in it gets out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_ins.run_files import made_up_run, made_up_study, save_runs

from costmodels.costfile import CostFile
from cwmp.gain import predict_gain
from cwmp.report.page import load_study, page_of
from cwmp.report.page.view import View
from cwmp.studies.runs import RunFile
from profiler.errors import FileFormatError, InputFileError

_VOID = {"meta", "br", "hr", "input", "img", "link"}
_HOSTILE = "<script>alert(1)</script>\"'&\u2028\u202e</script><!--"


class Document(HTMLParser):
    """Elements with their attributes and text; refuses tags that do not match."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style"):
            self.scripts.append((self.elements[-1][1], data))
        else:
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[RunFile], View, str]:
    folder = tmp_path_factory.mktemp("made-up") / "study"
    runs = made_up_study(folder)
    view = load_study(folder)
    return runs, view, page_of(view)


def _charts(page: str) -> dict[str, Any]:
    (data,) = [text for attributes, text in Document(page).scripts if attributes.get("id")]
    return {chart["id"]: chart for chart in json.loads(data)["charts"]}


def test_points_are_the_means_of_the_runs(study: tuple[list[RunFile], View, str]) -> None:
    runs, _, page = study
    series = {each["name"]: each for each in _charts(page)["accuracy-0"]["series"]}
    assert set(series) == {"CWMP 20%", "CWMP 50%", "Top-K 20%", "Top-K 50%", "Random-K 20%",
                           "Random-K 50%", "dense"}  # fmt: skip
    mine = [run for run in runs if (run.labels["method"], run.labels["budget"]) == ("topk", "20%")]
    assert len(mine) == 3
    accuracy = np.mean([[row.accuracy for row in run.rounds] for run in mine], axis=0)
    spent = [[row.cumulative.value_j for row in run.rounds if row.cumulative] for run in mine]
    assert series["Top-K 20%"]["y"] == pytest.approx(accuracy.tolist())
    assert series["Top-K 20%"]["x"] == pytest.approx(np.mean(spent, axis=0).tolist())


def test_phases_add_up_to_the_last_cumulative_joules(
    study: tuple[list[RunFile], View, str],
) -> None:
    _, view, _ = study
    for curve in view.curves:
        end = curve.points[-1].spent
        parts = [cell for cell in curve.phases.values() if cell is not None]
        assert end is not None
        assert sum(cell.value_j for cell in parts) == pytest.approx(end.value_j)
        assert curve.phases["uplink"] is not None
        assert curve.phases["uplink"].origin == "assumed"


def test_observed_gain_is_the_ratio_of_captured_shares(
    study: tuple[list[RunFile], View, str], tmp_path: Path
) -> None:
    runs, view, _ = study

    def captured(method: str, seed: int) -> float:
        rows = next(
            run.rounds for run in runs
            if run.labels["method"] == method and run.labels["budget"] == "20%"
            and run.job.seed == seed
        )  # fmt: skip
        return sum(r.captured or 0 for r in rows) / sum(r.captured_of or 0 for r in rows)

    (pair,) = [pair for pair in view.gains if view.budgets[pair.budget] == "20%"]
    ratios = [captured("cwmp", seed) / captured("topk", seed) for seed in range(3)]
    assert pair.observed.mean == pytest.approx(np.mean(ratios))
    costs = CostFile.load(runs[0].job.devices[0].costs)
    assert pair.predicted == pytest.approx(predict_gain(costs, "laplace", "20%").gain)
    assert pair.predicted_low is not None
    assert pair.predicted_high is not None
    assert pair.predicted_low <= pair.predicted <= pair.predicted_high


def test_the_policy_allows_this_style_and_script_and_nothing_else(
    study: tuple[list[RunFile], View, str],
) -> None:
    page = study[2]
    document = Document(page)
    (policy,) = [m["content"] for m in document.all("meta") if m.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_nothing_is_fetched_and_no_handler_or_style_attribute_stands_in_the_markup(
    study: tuple[list[RunFile], View, str],
) -> None:
    for tag, attributes in Document(study[2]).elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        for name, value in attributes.items():
            assert name not in ("src", "srcset", "style", "xlink:href", "action")
            assert not name.startswith("on")
            assert name != "href" or (value or "").startswith("#")
    assert not re.search(r"url\((?!#)|@import|https?:(?!//www\.w3\.org/2000/svg)", study[2])


def test_pictures_have_names_descriptions_and_tables(
    study: tuple[list[RunFile], View, str],
) -> None:
    document = Document(study[2])
    identities = [attributes["id"] for _, attributes in document.elements if attributes.get("id")]
    assert len(identities) == len(set(identities))
    pictures = [svg for svg in document.all("svg") if svg.get("role") == "img"]
    assert len(pictures) == 5
    for svg in pictures:
        assert all(part in identities for part in (svg["aria-labelledby"] or "").split())
    hidden = [svg for svg in document.all("svg") if svg.get("role") != "img"]
    assert all(svg["aria-hidden"] == "true" for svg in hidden)
    assert len(document.all("details")) == len(document.all("figure")) == 5
    frames = [d for d in document.all("div") if d.get("class") == "chart"]
    assert all(d["tabindex"] == "0" and d["aria-label"] for d in frames)
    toggles = [b for b in document.all("button") if "data-toggle" in b]
    assert len(toggles) == 4 + 3
    assert all(b["aria-pressed"] == "true" and b["type"] == "button" for b in toggles)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    runs = made_up_study(tmp_path / "study", methods=("cwmp",), budgets=("20%",), seeds=1)
    first = runs[0]
    evil = first.model_copy(
        update={
            "labels": {**first.labels, "method": _HOSTILE, "device": _HOSTILE,
                       "control": _HOSTILE, "budget": _HOSTILE},
            "software": {_HOSTILE: "1"},
            "reason": _HOSTILE,
        }
    )  # fmt: skip
    evil.save(tmp_path / "study/runs" / "0000000000000000.json")
    text = tmp_path / "study/study.json"
    text.write_text(json.dumps({"name": _HOSTILE + "\ud800"}))
    costs = tmp_path / "study/costs/board.json"
    raw = json.loads(costs.read_text())
    raw["layers"][0]["name"] = _HOSTILE
    raw["assumptions"] = [_HOSTILE]
    raw["device"] = _HOSTILE
    costs.write_text(json.dumps(raw))
    page = page_of(load_study(tmp_path / "study"))
    page.encode()
    document = Document(page)
    assert len(document.all("script")) == 2
    assert "alert(1)" not in page.replace("&lt;script&gt;alert(1)", "").replace(
        "\\u003cscript\\u003ealert(1)", ""
    )
    assert "\u2028" not in page
    assert "\u202e" not in page
    assert any("<script>alert(1)</script>\"'&" in text for text in document.texts)
    names = [s["name"] for s in _charts(page)["accuracy-0"]["series"]]
    assert any("<script>" in name for name in names)


def test_what_did_not_finish_is_told_and_not_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    made_up_study(folder, methods=("topk",), budgets=("20%",), seeds=2)
    costs = folder / "costs/board.json"
    save_runs(
        folder,
        [
            made_up_run("topk", "1%", 0, costs=costs, status="infeasible", reason="opens nothing"),
            made_up_run("random", "20%", 0, costs=costs, absent=True, unpriced=("uplink",)),
        ],
    )
    view = load_study(folder)
    assert [(u.status, u.reason, u.seeds) for u in view.unfinished] == [
        ("infeasible", "opens nothing", (0,))
    ]
    assert [(a.reason, a.times, a.clients) for a in view.absences] == [("battery", 8, 1)]
    page = page_of(view)
    charts = _charts(page)
    assert [each["name"] for each in charts["accuracy-0"]["series"]] == [
        "Top-K 20%", "Random-K 20%"
    ]  # fmt: skip
    assert charts["accuracy-0"]["front"] is False
    assert "Sums lack uplink" in page
    assert "No tests: the study has no summary yet." in page
    assert any("different seeds" in warning for warning in view.warnings)


def test_folders_that_are_no_study_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="not a folder"):
        load_study(tmp_path / "absent")
    with pytest.raises(InputFileError, match="holds no runs"):
        load_study(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/x.json").write_text('{"schema_name": "other"}')
    with pytest.raises(FileFormatError, match="not a run"):
        load_study(tmp_path)


def test_copies_of_costs_go_by_the_file_that_the_jobs_name(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    made_up_study(folder, methods=("cwmp", "topk"), budgets=("20%",), seeds=1)
    shutil.rmtree(folder / "runs")
    (folder / "runs").mkdir()
    (folder / "costs/board.json").rename(folder / "costs/board-0123.json")
    gone = tmp_path / "elsewhere/board-0123.json"
    (folder / "costs/board-shuffled-4567.json").write_text("not read")
    save_runs(folder, [made_up_run(m, "20%", 0, costs=gone) for m in ("cwmp", "topk")])
    view = load_study(folder)
    assert list(view.costs) == ["board"]
    assert len(view.gains) == 1
    (folder / "costs/board-0123.json").unlink()
    view = load_study(folder)
    assert view.costs == {}
    assert view.gains == ()
    assert "the costs of board are not at hand" in view.gain_notes[0]
    assert any("The costs of board are not shown" in warning for warning in view.warnings)
