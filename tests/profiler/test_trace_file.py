"""What a trace says of the conditions and the meter, through a session and back from a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from stand_ins.sessions import profile_known
from stand_ins.simulated_device import DepositMeter, KnownOperation

from profiler.errors import FileFormatError
from profiler.from_journal import trace_of_journal
from profiler.meters.base import Systematic
from profiler.trace import COLUMNS, Trace

pytestmark = pytest.mark.usefixtures("short_probe")

GOLDEN = Path(__file__).parents[1] / "golden" / "trace-v1.csv"
SCOPE = "the carrier board is outside these rails"
GAIN = Systematic(0.05, "gain of the sensor, assumed")
OFFSET = Systematic(0.005, "offset of the shunt, a data sheet's table 7.5")


@pytest.fixture
def warm_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a processor's temperature, 48.5 degrees, in place of the kernel's."""
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("x86_pkg_temp\n")
    (zone / "temp").write_text("48500\n")
    monkeypatch.setenv("CWMP_SYSFS", str(tmp_path / "sys"))
    return zone / "temp"


def _profile(**settings) -> Trace:
    meter = DepositMeter()
    meter.info = replace(meter.info, scope=(SCOPE,), systematic=(GAIN, OFFSET))
    operation = KnownOperation(meter, [10, 100])
    return profile_known(meter=meter, extra_operations=[operation], precision=0.2, **settings)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_the_meter_says_of_its_joules_survives_a_file(tmp_path, suffix):
    trace = _profile(journal=tmp_path / "t.journal")
    assert trace.metadata.systematic == (GAIN, OFFSET)
    assert trace.metadata.scope == (SCOPE, "joules that nobody spent")
    path = tmp_path / f"t{suffix}"
    trace.save(path)
    loaded = Trace.load(path)
    said = trace.metadata.model_dump(mode="json")
    assert loaded.metadata.model_dump(mode="json") == said
    assert isinstance(loaded.metadata.systematic[0], Systematic)
    made = trace_of_journal(tmp_path / "t.journal")
    assert made.metadata.model_dump(mode="json") == said


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_devices_temperature_is_written_with_each_block(tmp_path, warm_host, suffix):
    def warm(standing) -> None:
        if standing.stage == "pilot" and standing.done == 4:
            warm_host.write_text("71250\n")

    trace = _profile(progress=warm)
    celsius = trace.blocks["temperature_c"].tolist()
    assert celsius == [48.5] * 4 + [71.25] * (len(celsius) - 4)
    trace.save(tmp_path / f"t{suffix}")
    assert Trace.load(tmp_path / f"t{suffix}").blocks.equals(trace.blocks)


def test_a_host_that_shows_no_temperature_writes_none(tmp_path, warm_host):
    warm_host.unlink()
    trace = _profile()
    assert trace.blocks["temperature_c"].isna().all()
    trace.save(tmp_path / "t.csv")
    assert Trace.load(tmp_path / "t.csv").blocks.equals(trace.blocks)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files_from_before_the_column_still_load(tmp_path, suffix):
    trace = _profile()
    old = Trace(trace.metadata, trace.blocks)
    object.__setattr__(old, "blocks", trace.blocks.drop(columns="temperature_c"))
    old.save(tmp_path / f"t{suffix}")
    loaded = Trace.load(tmp_path / f"t{suffix}")
    assert list(loaded.blocks) == [column.name for column in COLUMNS]
    assert loaded.blocks["temperature_c"].isna().all()
    assert loaded.blocks.drop(columns="temperature_c").equals(old.blocks)


@pytest.mark.parametrize("column", [column.name for column in COLUMNS if not column.optional])
def test_no_other_column_may_be_missing(column):
    trace = Trace.load(GOLDEN)
    with pytest.raises(FileFormatError, match=f"column '{column}' is missing"):
        Trace(trace.metadata, trace.blocks.drop(columns=column))


def test_a_temperature_that_is_no_number_is_refused():
    trace = Trace.load(GOLDEN)
    with pytest.raises(FileFormatError, match="temperature_c"):
        Trace(trace.metadata, trace.blocks.assign(temperature_c=float("inf")))
    with pytest.raises(FileFormatError, match="temperature_c"):
        Trace(trace.metadata, trace.blocks.assign(temperature_c="warm"))
