"""Frames over a real socket, and peers that do not behave."""

from __future__ import annotations

import socket
import struct
import time

import pytest

from cwmp.transport import MAGIC, Receiver, Sender, parse_peer
from profiler.errors import InputError


def _until(condition, timeout_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.005)
    assert condition()


def test_every_byte_is_drained_before_send_returns():
    sizes = [0, 1, 1000, 3 * 2**20]
    with Receiver().start() as receiver:
        sender = Sender(*receiver.address)
        for count, size in enumerate(sizes, start=1):
            sender.send(b"x" * size)
            _until(lambda count=count: receiver.received.frames == count)
        sender.close()
        assert receiver.received.payload_bytes == sum(sizes)
        second = Sender(*receiver.address)
        second.send(b"again")
        second.close()
        _until(lambda: receiver.received.connections == 2)
        assert receiver.received.refused == 0


def test_closing_takes_no_time_and_frees_the_port():
    receiver = Receiver().start()
    address = receiver.address
    Sender(*address).close()
    begin_s = time.monotonic()
    receiver.close()
    assert not receiver._thread.is_alive()
    assert time.monotonic() - begin_s < 5  # not the timeout of a silent connection
    with pytest.raises(InputError, match=r"cannot reach the receiver at .*'cwmp receive'"):
        Sender(*address)


def test_closing_does_not_wait_for_a_silent_sender():
    receiver = Receiver(timeout_s=60).start()
    sender = Sender(*receiver.address)
    _until(lambda: receiver.received.connections == 1)
    receiver.close()
    assert not receiver._thread.is_alive()
    sender.close()


@pytest.mark.parametrize(
    "header", [b"HTTP" + struct.pack("<Q", 4), MAGIC + struct.pack("<Q", 2**62)]
)
def test_frames_that_are_not_ours_or_too_long_end_the_connection(header):
    with Receiver().start() as receiver:
        with socket.create_connection(receiver.address, timeout=5) as stranger:
            stranger.sendall(header)
            assert stranger.recv(8) == b""
        _until(lambda: receiver.received.refused == 1)
        assert receiver.received.frames == 0
        good = Sender(*receiver.address)  # and the next one is served
        good.send(b"1234")
        good.close()


def test_a_sender_hears_that_its_frame_is_too_long():
    with Receiver(max_payload_bytes=10).start() as receiver:
        sender = Sender(*receiver.address)
        sender.send(b"x" * 10)
        with pytest.raises(InputError, match=r"refuses frames of 11 bytes|was lost"):
            sender.send(b"x" * 11)
        sender.close()


def test_a_sender_that_leaves_inside_a_frame_is_counted():
    with Receiver().start() as receiver:
        with socket.create_connection(receiver.address, timeout=5) as stranger:
            stranger.sendall(MAGIC + struct.pack("<Q", 100) + b"short")
        _until(lambda: receiver.received.refused == 1)
        assert receiver.received.frames == 0


def test_a_silent_peer_times_out():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = Sender(*listener.getsockname(), timeout_s=0.2)
        with pytest.raises(InputError, match="was lost: timed out"):
            sender.send(b"hello")
        sender.close()


def test_a_peer_that_answers_something_else_is_named():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = Sender(*listener.getsockname(), timeout_s=5)
        connection, _ = listener.accept()
        connection.sendall(struct.pack("<Q", 99))
        with pytest.raises(InputError, match="not a 'cwmp receive'"):
            sender.send(b"hello")
        connection.close()
        sender.close()


def test_a_port_in_use_is_refused():
    with Receiver() as receiver, pytest.raises(InputError, match="cannot listen on"):
        Receiver(*receiver.address)


@pytest.mark.parametrize(
    ("text", "address"),
    [("board:7533", ("board", 7533)), ("[::1]:80", ("::1", 80)), ("10.0.0.2:1", ("10.0.0.2", 1))],
)
def test_peers(text, address):
    assert parse_peer(text) == address


@pytest.mark.parametrize(
    "text", ["board", ":80", "board:", "board:http", "board:0", "board:70000", "b:²"]
)
def test_text_that_names_no_peer(text):
    with pytest.raises(InputError, match="not HOST:PORT"):
        parse_peer(text)
