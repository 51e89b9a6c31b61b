"""Published link energies: the table against its sources, the sums against their formula."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.composition.link_table import LINKS, find_link
from costmodels.composition.links import Figure, Link, lora_airtime_s
from profiler.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("CWMP_SHARED_DATA", ROOT.parent / "shared" / "data"))
RADIO = SHARED / "energy" / "radio" / "radio_energy.csv"
names = st.sampled_from(sorted(LINKS))
plain = st.sampled_from(sorted(name for name, link in LINKS.items() if link.frame is None))

ROWS = {
    ("LTE", "2012 AT&T handset"): "lte-2012-{}",
    ("3G", "2012 handset"): "3g-{}",
    ("WiFi", "2012 handset"): "wifi-{}",
    ("LTE", "Verizon phone whole-device"): "lte-{}",
    ("5G-NSA-lowband", "Verizon phone whole-device"): "5g-lowband-{}",
    ("5G-mmWave", "Verizon phone whole-device"): "5g-mmwave-{}",
    ("BLE-1M", "nRF52840 0 dBm DC/DC 3 V"): "ble-uplink",
    ("BLE-1M", "nRF52840 +8 dBm DC/DC 3 V"): "ble-8dbm-uplink",
    ("BLE-1M", "nRF52840 DC/DC 3 V"): "ble-downlink",
    ("LoRa SF7/125k CR4/5", "SX127x 3.3 V 28 mA"): "lora-sf7-uplink",
    ("LoRa SF12/125k CR4/5", "SX127x 3.3 V 28 mA"): "lora-sf12-uplink",
    ("LoRa", "SX127x 3.3 V 11.2 mA"): "lora-sf7-downlink",
    ("WiFi conventional", "various"): "wifi-survey",
}
NOT_A_COST_PER_BIT = {"BLE cyclic"}


def _rows() -> list[tuple[Link, dict[str, str]]]:
    if not RADIO.exists():
        pytest.skip(f"the published figures are not at {RADIO}")
    with RADIO.open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = []
    for row in rows:
        if row["tech"] in NOT_A_COST_PER_BIT:
            continue
        name = ROWS[row["tech"], row["device"]].format(row["direction"])
        found.append((LINKS[name], row))
    return found


def test_every_number_is_the_published_one() -> None:
    checked = 0
    for link, row in _rows():
        slope = link.slope_j_per_bit
        expected = {
            "slope_mW_per_Mbps": slope and slope.value * 1e9,
            "base_mW": link.base_w and link.base_w * 1e3,
            "tail_s": link.tail_s,
            "fixed_J_one_packet": link.fixed_j,
        }
        for column, value in expected.items():
            if row[column]:
                assert value == pytest.approx(float(row[column]), rel=2e-3), (link.name, column)
                checked += 1
            elif column != "base_mW":
                assert value is None or "survey" in link.name, (link.name, column)
        if row["tail_mW"]:
            low, _, high = row["tail_mW"].partition("-")
            assert link.tail_w is not None
            assert link.tail_w.bounds(1.0).low == pytest.approx(float(low) / 1e3)
            assert link.tail_w.bounds(1.0).high == pytest.approx(float(high or low) / 1e3)
        if row["verified"] != "primary-abstract":
            assert link.verified == row["verified"]
    assert checked == 12 + 18 + 2 + 6  # slopes, base powers, tails, single packets


def test_energy_a_bit_of_framed_radios_is_the_published_one_without_overhead() -> None:
    """Power over the PHY's rate: what the source states; frames only add to it."""
    for link, row in _rows():
        if link.frame is None or not row["uJ_per_bit_total"]:
            continue
        assert link.base_w is not None
        phy_j = link.base_w / link.rate_bps
        assert phy_j == pytest.approx(float(row["uJ_per_bit_total"]) * 1e-6, rel=3e-3)
        assert phy_j < link.byte_j().value / 8 < 3 * phy_j


def test_ranges_hold_the_other_fits_that_the_source_reports() -> None:
    others = {
        "lte-uplink": 80.21,
        "lte-downlink": 13.91,
        "5g-lowband-uplink": 29.15,
        "5g-lowband-downlink": 12.16,
        "5g-mmwave-uplink": 9.42,
        "5g-mmwave-downlink": 1.93,
    }
    for name, other in others.items():
        slope = LINKS[name].slope_j_per_bit
        assert slope is not None
        inside = slope.bounds(1.0)
        assert inside.low <= other * 1e-9 * (1 + 1e-9)
        assert other * 1e-9 <= inside.high * (1 + 1e-9)


@given(plain, st.integers(0, 10**9), st.floats(1e4, 1e9), st.booleans())
def test_energy_is_the_formula(name: str, bits: int, rate: float, base: bool) -> None:
    link = LINKS[name]
    slope_j = link.slope_j_per_bit.value if link.slope_j_per_bit else 0.0
    power_w = slope_j * rate + (link.base_w or 0.0) * base
    fixed_j = link.fixed_j or 0.0
    expected_j = power_w * (bits / rate) + (fixed_j if bits else 0.0)
    assert link.energy_j(bits, rate, include_base=base) == pytest.approx(expected_j, rel=1e-9)


@given(
    st.sampled_from(["lora-sf7-uplink", "lora-sf12-uplink", "ble-uplink"]), st.integers(1, 10**5)
)
def test_framed_energy_is_that_of_whole_frames_but_for_half_a_frame(name: str, size: int) -> None:
    link = LINKS[name]
    assert link.frame is not None and link.base_w is not None
    frames = -(-size // link.frame.payload_bytes)
    frame_j = link.base_w * link.frame.airtime_s
    assert abs(link.energy_j(8 * size) - frames * frame_j) <= frame_j / 2 * (1 + 1e-9)
    assert link.airtime_s(size) == pytest.approx(frames * link.frame.airtime_s)


@given(names)
def test_every_price_is_positive_inside_its_interval_and_cited(name: str) -> None:
    link = LINKS[name]
    byte, transfer = link.byte_j(), link.transfer_j()
    assert 0 < byte.low <= byte.value <= byte.high
    if transfer is not None:
        assert 0 <= transfer.low <= transfer.value <= transfer.high
    assert link.origin == "modelled"
    assert len(link.citation) > 10
    assert link.name == name


@pytest.mark.parametrize("direction", ["uplink", "downlink"])
def test_the_tail_is_counted_once(direction: str) -> None:
    """One packet of 12.76 J holds the tail of 11.576 s at 1.06 W = 12.27 J."""
    link = LINKS[f"lte-2012-{direction}"]
    assert link.tail_w is not None and link.tail_s is not None
    tail_j = link.tail_w.value * link.tail_s
    transfer = link.transfer_j()
    assert transfer is not None
    assert transfer.value == link.fixed_j == 12.76
    assert tail_j < transfer.value < 1.05 * tail_j


def test_a_tail_without_one_packet_is_power_times_time() -> None:
    link = Link("x", "X", "uplink", "d", Figure(1e-9), None, 1e6, "c", "assumed",
                tail_s=2.0, tail_w=Figure(3.0), factor=1.0)  # fmt: skip
    assert link.transfer_j() == (6.0, 6.0, 6.0)
    assert link.energy_j(10) == pytest.approx(6.0 + 1e-8)


def test_a_tail_of_unknown_length_is_not_a_cost_of_zero() -> None:
    assert LINKS["5g-mmwave-uplink"].tail_w is not None
    assert LINKS["5g-mmwave-uplink"].transfer_j() is None
    assert "tail" in LINKS["5g-mmwave-uplink"].left_out


@pytest.mark.parametrize(
    ("spreading", "phy_bytes", "seconds"),
    [(7, 235, 0.368896), (12, 64, 2.793472), (7, 23, 0.061696), (10, 24, 0.370688)],
)
def test_lora_airtime(spreading: int, phy_bytes: int, seconds: float) -> None:
    """Values of LoRaWAN airtime calculators, for 222, 51, 10 and 11 bytes of payload."""
    assert lora_airtime_s(spreading, phy_bytes) == pytest.approx(seconds, rel=1e-6)


def test_whole_device_power_is_left_out_unless_asked_for() -> None:
    link = LINKS["lte-uplink"]
    assert link.byte_j().value == pytest.approx(8 * 76.68e-9)
    with_base = link.byte_j(10e6, include_base=True).value
    assert with_base == pytest.approx(8 * (76.68e-9 + 2.926 / 10e6))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: find_link("lte-up"), "near it: lte-uplink"),
        (lambda: find_link("pigeon"), "'cwmp costs links'"),
        (lambda: LINKS["wifi-uplink"].byte_j(0.0), "rate of 0.0"),
        (lambda: LINKS["wifi-uplink"].byte_j(float("nan")), "rate of nan"),
        (lambda: LINKS["lora-sf7-uplink"].byte_j(1e6), "nothing else"),
        (lambda: LINKS["ble-uplink"].byte_j(include_base=False), "count the base power"),
        (lambda: LINKS["wifi-uplink"].energy_j(-1), "-1 bits"),
        (lambda: Figure(0.0), "not positive"),
        (lambda: Figure(2.0, 3.0), "outside"),
    ],
)
def test_what_cannot_be_is_refused(call: object, words: str) -> None:
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        call()  # type: ignore[operator]


def test_the_surveys_value_is_the_middle_of_its_range_on_the_log_scale() -> None:
    found = LINKS["wifi-survey"].byte_j()
    low, value, high = (1e6 * x for x in (found.low, found.value, found.high))
    assert [low, high] == pytest.approx([1.0, 17.0])  # J a megabyte
    assert value / low == pytest.approx(high / value)
