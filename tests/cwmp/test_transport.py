"""Frames over a real socket, and peers that do not behave."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress

import pytest

from cwmp.transport import MAGIC, MIN_BYTES_S, Receiver, Sender, parse_peer
from cwmp.transport.sender import _is_this_host
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
            assert receiver.received.frames == count
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


def _slow_peer(listener: socket.socket, bytes_s: float) -> None:
    """Reads one frame at *bytes_s* at most and answers."""
    connection, _ = listener.accept()
    with connection:
        left = struct.unpack("<4sQ", connection.recv(12, socket.MSG_WAITALL))[1]
        answer = struct.pack("<Q", left)
        while left:
            count = len(connection.recv(min(left, 1 << 16)))
            left -= count
            time.sleep(count / bytes_s)
        connection.sendall(answer)


@pytest.mark.parametrize("payload_bytes", [1_000_000, 8_000_000])
def test_a_slow_link_is_waited_for_while_bytes_move(payload_bytes):
    """The smaller payload fits in the kernel: what moves is then seen in its queue alone."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        peer = threading.Thread(target=_slow_peer, args=(listener, payload_bytes / 1.5))
        peer.start()
        sender = Sender(*listener.getsockname(), timeout_s=0.6)
        begin_s = time.monotonic()
        sender.send(bytes(payload_bytes))
        assert time.monotonic() - begin_s > 0.6  # longer than the time it waits without progress
        sender.close()
        peer.join()


def test_a_trickle_is_ended_and_holds_nobody_up():
    with Receiver(timeout_s=0.6).start() as receiver:
        with socket.create_connection(receiver.address, timeout=5) as stranger:
            stranger.sendall(MAGIC + struct.pack("<Q", 2**32))
            honest = Sender(*receiver.address)
            honest.send(b"1234")
            honest.close()
            assert receiver.received.refused == 0
            deadline_s = time.monotonic() + 5
            while receiver.received.refused == 0 and time.monotonic() < deadline_s:
                with suppress(OSError):
                    stranger.sendall(b"x")  # never silent for as long as the timeout
                time.sleep(0.05)
        assert receiver.received.refused == 1
        assert receiver.received.frames == 1


def test_a_frame_that_keeps_up_may_take_longer_than_the_timeout():
    with Receiver(timeout_s=0.6).start() as receiver:
        with socket.create_connection(receiver.address, timeout=5) as slow:
            slow.sendall(MAGIC + struct.pack("<Q", 10 * MIN_BYTES_S))
            for _ in range(10):
                slow.sendall(bytes(MIN_BYTES_S))
                time.sleep(0.1)
            assert slow.recv(8) == struct.pack("<Q", 10 * MIN_BYTES_S)
        assert receiver.received.refused == 0


def test_connections_beyond_the_limit_wait_for_one_to_end():
    with Receiver(timeout_s=0.3, max_connections=1).start() as receiver:
        with socket.create_connection(receiver.address, timeout=5):
            _until(lambda: receiver.received.connections == 1)
            late = Sender(*receiver.address)
            late.send(b"1234")
            late.close()
        _until(lambda: receiver.received.connections == 2)
        assert receiver.received.refused == 1


def test_several_senders_at_once_are_counted_exactly():
    def send(address: tuple[str, int]) -> None:
        sender = Sender(*address)
        for _ in range(50):
            sender.send(b"x" * 100)
        sender.close()

    with Receiver().start() as receiver:
        threads = [threading.Thread(target=send, args=(receiver.address,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        _until(lambda: receiver.received.frames == 200)
        assert receiver.received.payload_bytes == 20_000


def _ipv6_works() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _ipv6_works(), reason="this host has no IPv6 loopback")
def test_ipv6_is_listened_on():
    with Receiver("::1").start() as receiver:
        assert receiver.address[0] == "::1"
        sender = Sender(*parse_peer(f"[::1]:{receiver.address[1]}"))
        sender.send(b"1234")
        assert sender.same_host
        sender.close()
        _until(lambda: receiver.received.frames == 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_a_receiver_on_this_host_is_recognised(host):
    with Receiver(host).start() as receiver:
        sender = Sender(host, receiver.address[1])
        sender.close()
        assert sender.same_host


@pytest.mark.parametrize(
    ("own", "peer", "same"),
    [
        ("10.0.0.7", "10.0.0.7", True),
        ("10.0.0.7", "10.0.0.8", False),
        ("::1", "::ffff:127.0.0.1", True),
        ("fe80::1%eth0", "fe80::1%eth0", True),
        ("fe80::1%eth0", "fe80::2%eth0", False),
    ],
)
def test_hosts_are_told_apart_by_their_addresses(own, peer, same):
    class Connected:
        def getsockname(self):
            return own, 1

        def getpeername(self):
            return peer, 7533

    assert _is_this_host(Connected()) is same


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
    "text",
    [
        "board",
        ":80",
        "board:",
        "board:http",
        "board:0",
        "board:70000",
        "b:²",
        "b:" + "1" * 5000,
        "a..b:80",
        "a" * 64 + ":80",
        "\ud800:80",
        "a\0b:80",
    ],
)
def test_text_that_names_no_peer(text):
    with pytest.raises(InputError, match="not HOST:PORT"):
        parse_peer(text)


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "a\0b"])
def test_a_host_that_no_resolver_takes_is_one_line(host):
    for attempt in (lambda: Sender(host, 80), lambda: Receiver(host)):
        with pytest.raises(InputError) as caught:
            attempt()
        assert "\n" not in str(caught.value)
