"""Cost files with a link, and with sending in the price of an entry."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins.cost_files import cost_file

from costmodels.composition.compose import update_and_transmission, with_link
from costmodels.composition.link_table import LINKS
from costmodels.composition.mixing import mix
from costmodels.costfile import CostFile
from cwmp.selectors.costs import SelectionCosts
from profiler.errors import InputError
from profiler.layers import LayerInfo

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "costs-v1.json"
LAYERS = [
    LayerInfo("fc1.weight", "linear.weight", (32, 64), "float32"),
    LayerInfo("fc1.bias", "linear.bias", (32,), "float32"),
    LayerInfo("fc2.weight", "linear.weight", (4, 32), "float32"),
]
COSTS = cost_file(LAYERS, origin="measured")
names = st.sampled_from(sorted(LINKS))


@given(names, st.integers(1, 10**8), st.integers(1, 50))
def test_sending_costs_what_the_link_says(name: str, size: int, receivers: int) -> None:
    send = with_link(COSTS, LINKS[name], receivers=receivers).message_cost("send")
    assert send is not None
    expected_j = receivers * LINKS[name].energy_j(8 * size)
    assert float(send.energy_j(size)) == pytest.approx(expected_j, rel=1e-9)


@given(names, st.floats(1e4, 1e9), st.booleans())
def test_rate_and_base_are_handed_on(name: str, rate: float, base: bool) -> None:
    link = LINKS[name]
    if link.frame is not None or link.slope_j_per_bit is None:
        return
    send = with_link(COSTS, link, rate_bps=rate, include_base=base).message_cost("send")
    assert send is not None
    assert float(send.energy_j(1000)) == pytest.approx(
        link.energy_j(8000, rate, include_base=base), rel=1e-9
    )


def test_only_sending_changes_and_the_origin_is_the_weakest() -> None:
    linked = with_link(COSTS, LINKS["lte-uplink"])
    assert (COSTS.origin, linked.origin) == ("measured", "modelled")
    assert linked.layers == COSTS.layers
    assert linked.modules == COSTS.modules
    kept = [cost for cost in COSTS.message if cost.operation != "send"]
    assert [cost for cost in linked.message if cost.operation != "send"] == kept
    assert linked.device == COSTS.device
    assert linked.meter.endswith("send: lte-uplink")


def test_assumptions_name_the_source_and_what_is_assumed() -> None:
    said = " ".join(with_link(COSTS, LINKS["lte-2012-uplink"]).assumptions)
    for words in ("Huang et al.", "[secondary]", "factor of 2", "5 Mbit/s is assumed", "tail"):
        assert words in said
    said = " ".join(with_link(COSTS, LINKS["lte-uplink"]).assumptions)
    for words in ("[primary-data]", "is not counted", "left out: waking"):
        assert words in said
    given_rate = with_link(COSTS, LINKS["wifi-uplink"], rate_bps=2e7).assumptions
    assert not any("is assumed" in s and "Mbit" in s for s in given_rate)


def test_a_second_link_replaces_the_first() -> None:
    once = with_link(COSTS, LINKS["ble-uplink"])
    twice = with_link(with_link(COSTS, LINKS["lte-uplink"]), LINKS["ble-uplink"])
    assert twice.message == once.message
    assert twice.assumptions == once.assumptions
    assert twice.meter == once.meter
    assert twice.provenance == once.provenance


def test_a_link_replaces_those_of_the_files_in_a_mix() -> None:
    first = with_link(COSTS.model_copy(update={"meter": "one"}), LINKS["wifi-uplink"])
    other = COSTS.model_copy(update={"meter": "two", "device": "another"})
    mixed = mix([(first, 1.0), (with_link(other, LINKS["lte-uplink"]), 1.0)])
    relinked = with_link(mixed, LINKS["ble-uplink"])
    assert relinked.meter == "one | two; send: ble-uplink"
    said = [s for s in relinked.assumptions if "send is modelled as" in s]
    assert len(said) == 1 and said[0].startswith("link: send is modelled as ble-uplink")
    assert not any("Huang" in s or "Mbit/s is assumed" in s for s in relinked.assumptions)


def test_a_rate_that_changes_nothing_is_said() -> None:
    for name in ("lte-uplink", "wifi-survey"):
        plain, given_rate = (with_link(COSTS, LINKS[name], rate_bps=r) for r in (None, 1e6))
        assert plain.message == given_rate.message
        assert any("changes nothing" in s for s in given_rate.assumptions)
        assert not any("changes nothing" in s for s in plain.assumptions)


def test_sending_is_not_priced_again_where_update_holds_it() -> None:
    held = update_and_transmission(with_link(COSTS, LINKS["wifi-uplink"]))
    other = held.model_copy(update={"device": "another"})
    for costs in (held, mix([(held, 1.0), (other, 1.0)])):
        with pytest.raises(InputError, match="count them twice"):
            with_link(costs, LINKS["ble-uplink"])


def test_a_linked_file_is_read_back_the_same(tmp_path: Path) -> None:
    for number, link in enumerate(LINKS.values()):
        linked = with_link(CostFile.load(GOLDEN), link)
        linked.save(tmp_path / f"{number}.json")
        again = CostFile.load(tmp_path / f"{number}.json")
        assert again.message == linked.message
        assert again.assumptions == linked.assumptions


@given(st.integers(1, 2048), st.floats(0.1, 20))
def test_the_sum_is_applying_plus_sending(k: int, size: float) -> None:
    found = update_and_transmission(COSTS, bytes_per_entry=size, dense_bytes_per_entry=4.0)
    send = COSTS.message_cost("send")
    assert send is not None
    byte_j = send.pieces[0].c_j.value
    for new, old in zip(found.layers, COSTS.layers, strict=True):
        for pattern, wide in (("random", size), ("dense", 4.0)):
            one, two = new.find("update", pattern), old.find("update", pattern)
            assert one is not None and two is not None
            expected_j = float(two.energy_j(k)) + byte_j * wide * k
            assert float(one.energy_j(k)) == pytest.approx(expected_j, rel=1e-9)


def test_the_sum_is_what_the_selector_spends_at_low_density() -> None:
    found = update_and_transmission(COSTS)
    spent = SelectionCosts.from_cost_file(COSTS)
    for layer, price in zip(found.layers, spent.layers, strict=True):
        update = layer.find("update", "random")
        assert update is not None
        assert update.pieces[0].c_j.value == pytest.approx(price.marginal_j, rel=1e-12)


def test_a_selector_refuses_the_sum_rather_than_count_sending_twice() -> None:
    with pytest.raises(InputError, match="no 'send' cost"):
        SelectionCosts.from_cost_file(update_and_transmission(COSTS))
    with pytest.raises(InputError, match="no 'send' cost"):
        update_and_transmission(update_and_transmission(COSTS))


def test_a_selector_spends_a_linked_file() -> None:
    wifi = SelectionCosts.from_cost_file(with_link(COSTS, LINKS["wifi-uplink"]))
    assert wifi.layers[0].byte_j == pytest.approx(LINKS["wifi-uplink"].byte_j().value)
    assert wifi.message_j > 0.04
    assert wifi.dense_j > SelectionCosts.from_cost_file(COSTS).dense_j


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="0 receivers"):
        with_link(COSTS, LINKS["wifi-uplink"], receivers=0)
    with pytest.raises(InputError, match="takes -1 bytes"):
        update_and_transmission(COSTS, bytes_per_entry=-1)
