"""The links by name: published figures, each with its source and how it was checked.

Not in the table, because they do not give J a bit: Dementyev et al., IWS 2013 (BLE, ANT and ZigBee
in a cycle: 4.0 mJ a BLE cycle of 120 s with its sleep). Not known, and left out: how long an LTE
or 5G radio of 2020 stays up after a transfer, and what waking an LTE radio costs by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from costmodels.composition.links import Direction, Figure, Frame, Link, lora_airtime_s
from profiler.errors import InputError

_NANO, _MILLI = 1e-9, 1e-3
_HUANG = (
    "Huang et al., A Close Examination of Performance and Power Characteristics of 4G LTE "
    "Networks, MobiSys 2012"
)
_NARAYANAN = (
    "least squares on the published measurements of Narayanan et al., A Variegated Look at 5G in "
    "the Wild, SIGCOMM 2021"
)
_NORDIC = "Nordic Semiconductor, nRF52840 Product Specification, radio current at 3 V with DC/DC"
_SX127X = "ns-3 lorawan module, lora-radio-energy-model.cc: SX127x at 3.3 V"
_LORAWAN = "frames as LoRaWAN 1.0 EU868 allows"
_ETHERNET = (
    "Sivaraman et al., Profiling Per-Packet and Per-Byte Energy Consumption in the NetFPGA "
    "Gigabit Router, INFOCOM Workshops 2011"
)
_NO_TAIL = "waking the radio and the tail after a transfer, whose length is not known"
_BLE_LEFT_OUT = "acknowledgements, connection events without data, sleep, the processor"
_LORA_LEFT_OUT = "receive windows, retransmissions, joining, the wait of a duty cycle, processor"
_PACKET_BYTES = 1500


def _handset(
    name: str,
    technology: str,
    direction: Direction,
    slope: float,
    base: float,
    one_packet_j: float,
    rate_bps: float,
    tail: tuple[float, float] | None = None,
) -> Link:
    """A handset of 2012: nJ/bit, mW, J and s, mW of the tail."""
    return Link(
        name=name,
        technology=technology,
        direction=direction,
        device="handset of 2012",
        slope_j_per_bit=Figure(slope * _NANO),
        base_w=base * _MILLI,
        rate_bps=rate_bps,
        citation=_HUANG,
        verified="secondary",
        tail_s=tail[0] if tail else None,
        tail_w=Figure(tail[1] * _MILLI) if tail else None,
        fixed_j=one_packet_j,
    )


def _phone(
    name: str,
    technology: str,
    direction: Direction,
    slope: Figure,
    base: float,
    rate_bps: float,
    tail_mw: tuple[float, float] | None = None,
) -> Link:
    """A phone of 2020, screen and processor in its base power: nJ/bit, mW, mW of the tail."""
    tail_w = None
    if tail_mw is not None:
        low, high = (power * _MILLI for power in tail_mw)
        tail_w = Figure((low + high) / 2, low, high) if low < high else Figure(low)
    high_j = None if slope.high is None else slope.high * _NANO
    low_j = None if slope.low is None else slope.low * _NANO
    return Link(
        name=name,
        technology=technology,
        direction=direction,
        device="phone of 2020, Verizon",
        slope_j_per_bit=Figure(slope.value * _NANO, low_j, high_j),
        base_w=base * _MILLI,
        rate_bps=rate_bps,
        citation=_NARAYANAN,
        verified="primary-data",
        whole_device=True,
        tail_w=tail_w,
        left_out=_NO_TAIL,
    )


def _ble(name: str, direction: Direction, device: str, power_mw: float, current: str) -> Link:
    """1 Mbit/s, 20 bytes of payload in the 37 of a packet: ATT 3, L2CAP 4, link layer 10."""
    return Link(
        name=name,
        technology="BLE",
        direction=direction,
        device=device,
        slope_j_per_bit=None,
        base_w=power_mw * _MILLI,
        rate_bps=1e6,
        citation=f"{_NORDIC}: {current}; packets of 20 bytes, the default of Bluetooth 4.0",
        verified="primary-doc",
        frame=Frame(payload_bytes=20, airtime_s=37 * 8 / 1e6),
        left_out=_BLE_LEFT_OUT,
    )


def _lora(direction: Direction, spreading_factor: int, payload_bytes: int) -> Link:
    """125 kHz, code rate 4/5; LoRaWAN adds 13 bytes to the payload of a frame."""
    sending = direction == "uplink"
    symbol_rate = 125e3 / 2**spreading_factor
    return Link(
        name=f"lora-sf{spreading_factor}-{direction}",
        technology="LoRa",
        direction=direction,
        device=f"SX127x, SF{spreading_factor}, 125 kHz, 4/5",
        slope_j_per_bit=None,
        base_w=3.3 * (28e-3 if sending else 11.2e-3),
        rate_bps=spreading_factor * symbol_rate * 4 / 5,
        citation=f"{_SX127X}, {'28' if sending else '11.2'} mA; {_LORAWAN}",
        verified="primary-code",
        frame=Frame(payload_bytes, lora_airtime_s(spreading_factor, payload_bytes + 13)),
        left_out=_LORA_LEFT_OUT,
    )


def _ethernet(direction: Direction, byte_nj: float) -> Link:
    """A byte's own energy and its share of a packet of 1500; the port is on without traffic."""
    return Link(
        name=f"ethernet-{direction}",
        technology="Ethernet",
        direction=direction,
        device="port of a NetFPGA 1 Gbit/s router",
        slope_j_per_bit=Figure((byte_nj + 197.2 / _PACKET_BYTES) * _NANO / 8),
        base_w=1.102,
        rate_bps=1e9,
        citation=f"{_ETHERNET}; read in the examples of the ECOFEN module for ns-3",
        verified="secondary",
        whole_device=True,
        factor=10.0,
        left_out="the port's 1.1 W, drawn with and without traffic; the host; switches on the way",
    )


_ALL = (
    _handset("wifi-uplink", "Wi-Fi", "uplink", 283.17, 132.86, 0.04, 10e6),
    _handset("wifi-downlink", "Wi-Fi", "downlink", 137.01, 132.86, 0.04, 10e6),
    Link(
        name="wifi-survey",
        technology="Wi-Fi",
        direction="both",
        device="various, 1 to 17 J a megabyte",
        slope_j_per_bit=Figure((125e-9 * 2125e-9) ** 0.5, 125e-9, 2125e-9),
        base_w=None,
        rate_bps=10e6,
        citation="Macnica, note on Hi-Q Wi-Fi modules; the value is the middle on the log scale",
        verified="secondary",
        factor=1.0,
    ),
    _handset("3g-uplink", "3G", "uplink", 868.98, 817.88, 7.38, 1e6),
    _handset("3g-downlink", "3G", "downlink", 122.12, 817.88, 7.38, 2e6),
    _handset("lte-2012-uplink", "LTE", "uplink", 438.39, 1288.04, 12.76, 5e6, (11.576, 1060)),
    _handset("lte-2012-downlink", "LTE", "downlink", 51.97, 1288.04, 12.76, 10e6, (11.576, 1060)),
    _phone("lte-uplink", "LTE", "uplink", Figure(76.68, 76.68, 80.21), 2926, 10e6, (66, 178)),
    _phone("lte-downlink", "LTE", "downlink", Figure(11.54, 11.54, 13.91), 2839, 20e6, (66, 178)),
    _phone("5g-lowband-uplink", "5G low band", "uplink", Figure(32.17, 29.15, 33.36), 3199, 20e6),
    _phone(
        "5g-lowband-downlink", "5G low band", "downlink", Figure(11.54, 11.54, 12.16), 3059, 50e6
    ),
    _phone(
        "5g-mmwave-uplink", "5G mmWave", "uplink", Figure(8.88, 8.88, 9.55), 5664, 1e8, (1092, 1092)
    ),
    _phone(
        "5g-mmwave-downlink",
        "5G mmWave",
        "downlink",
        Figure(1.73, 1.73, 1.93),
        5237,
        5e8,
        (1092, 1092),
    ),
    _ble("ble-uplink", "uplink", "nRF52840, 0 dBm", 19.2, "6.40 mA"),
    _ble("ble-8dbm-uplink", "uplink", "nRF52840, +8 dBm", 49.2, "16.40 mA"),
    _ble("ble-downlink", "downlink", "nRF52840, receiving", 18.78, "6.26 mA"),
    _lora("uplink", 7, 222),
    _lora("uplink", 12, 51),
    _lora("downlink", 7, 222),
    _lora("downlink", 12, 51),
    _ethernet("uplink", 2.1),
    _ethernet("downlink", 1.3),
)

LINKS: Mapping[str, Link] = MappingProxyType({link.name: link for link in _ALL})
"""Name -> link."""


def find_link(name: str) -> Link:
    """The link called *name*.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    if name not in LINKS:
        near = get_close_matches(name, LINKS, n=3) or list(LINKS)[:3]
        raise InputError(
            f"no link is called {name!r}; near it: {', '.join(near)}; "
            "'cwmp costs links' lists all of them"
        )
    return LINKS[name]
