from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from stand_ins.run_files import made_up_run

from cwmp.fl.logs import COLUMNS, CsvLog, TensorBoardLog, open_log
from profiler.errors import (
    FileFormatError,
    InputError,
    InputFileError,
    MissingExtraError,
    OutputExistsError,
)


def test_a_csv_has_a_line_a_round_as_soon_as_it_ends(tmp_path: Path) -> None:
    run = made_up_run("topk", "20%", 3, rounds=3, absent=True, unpriced=("uplink",))
    log = open_log(f"csv:{tmp_path / 'rounds.csv'}")
    for number, row in enumerate(run.rounds, 1):
        log.round(row, run.labels)
        with (tmp_path / "rounds.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == number
    log.close()
    log.close()
    assert tuple(lines[0]) == COLUMNS
    last, row = lines[-1], run.rounds[-1]
    assert (last["method"], last["budget"], last["seed"]) == ("topk", "20%", "3")
    assert float(last["accuracy"]) == row.accuracy
    assert row.cumulative is not None
    assert float(last["cumulative_j"]) == row.cumulative.value_j
    assert float(last["train_j"]) == 0.4
    assert last["uplink_j"] == ""  # unknown is not 0
    assert (last["lacks"], last["absent"]) == ("uplink", "1")


def test_a_csv_quotes_what_names_contain(tmp_path: Path) -> None:
    run = made_up_run("topk", "20%", 0, rounds=1)
    log = CsvLog(tmp_path / "rounds.csv")
    log.round(run.rounds[0], {"method": 'a,"b"\nc'})
    log.close()
    with (tmp_path / "rounds.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert line["method"] == 'a,"b"\nc'


def test_a_csv_replaces_nothing_unasked(tmp_path: Path) -> None:
    path = tmp_path / "rounds.csv"
    path.write_text("mine")
    with pytest.raises(OutputExistsError):
        CsvLog(path)
    assert path.read_text() == "mine"
    open_log(f"csv:{path}", force=True).close()
    with pytest.raises(InputFileError):
        CsvLog(tmp_path / "absent" / "rounds.csv")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@sum(a1)", "\t=1", "\r=1"])
def test_a_spreadsheet_calculates_no_name(tmp_path: Path, name: str) -> None:
    run = made_up_run("topk", "20%", 0, rounds=1)
    log = CsvLog(tmp_path / "rounds.csv")
    log.round(run.rounds[0], {**run.labels, "device": name, "control": name, "seed": -1})
    log.close()
    with (tmp_path / "rounds.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert (line["device"], line["control"]) == (f"'{name}", f"'{name}")
    assert (line["seed"], line["method"]) == ("-1", "topk")  # numbers and other names stay


def test_a_csv_can_be_gone_on_with(tmp_path: Path) -> None:
    run, path = made_up_run("topk", "20%", 0, rounds=3), tmp_path / "rounds.csv"
    for row in run.rounds:
        log = open_log(f"csv:{path}", append=True)
        log.round(row, run.labels)
        log.close()
    with path.open(newline="") as file:
        assert [line["round"] for line in csv.DictReader(file)] == ["1", "2", "3"]
    path.write_text("mine")
    with pytest.raises(FileFormatError, match="is not a log of rounds"):
        CsvLog(path, append=True)
    path.write_bytes(b"\xff\x00")
    with pytest.raises(FileFormatError, match="cannot be gone on with"):
        CsvLog(path, append=True)
    assert path.read_bytes() == b"\xff\x00"


@pytest.mark.parametrize("text", ["", "csv", "csv:", "parquet:x", "tensorboard:"])
def test_other_logs_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"write csv:PATH or tensorboard:DIR"):
        open_log(text)


def test_tensorboard_gets_the_scalars_of_each_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runs = [made_up_run("topk", "20%", seed, rounds=3, unpriced=("uplink",)) for seed in (0, 1)]
    log = open_log(f"tensorboard:{tmp_path / 'board'}")
    for first, second in zip(*(run.rounds for run in runs), strict=True):
        log.round(first, runs[0].labels)
        log.round(second, runs[1].labels)
    log.close()
    folders = sorted(path for path in (tmp_path / "board").iterdir())
    assert len(folders) == 2
    for run, folder in zip(runs, folders, strict=True):
        events = EventAccumulator(str(folder)).Reload()
        assert [(e.step, e.value) for e in events.Scalars("accuracy")] == [
            (row.round, pytest.approx(row.accuracy)) for row in run.rounds
        ]
        spent = [row.cumulative.value_j for row in run.rounds if row.cumulative]
        assert [e.value for e in events.Scalars("joules/cumulative")] == pytest.approx(spent)
        assert "joules/uplink" not in events.Tags()["scalars"]


def test_names_of_runs_stay_inside_the_folder_and_apart(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log = TensorBoardLog(tmp_path / "board")
    row = made_up_run("topk", "20%", 0, rounds=1).rounds[0]
    for method in ("../../x", "..;..;x", ""):
        log.round(row, {"method": method})
    log.close()
    assert len(list((tmp_path / "board").iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["board"]


def test_without_tensorboard_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cwmp\[tensorboard\]'"):
        open_log(f"tensorboard:{tmp_path}")
