"""No busy loop anywhere: wake-ups over ten seconds of an idle signed-in session with a stream."""
import socket
import time

import pytest

from fakes.roster_model import Item
from fakes.support import deadline, wait_until


def test_ten_idle_seconds(fake, make_gateway):
    # Heartbeats are part of idling: 12 s apart, so at most one falls into the ten seconds.
    gateway = make_gateway(fake)
    fake.add("juliet", items=[Item("romeo@example.net", "Romeo")])
    api = gateway.sign_in("juliet@example.com")
    with gateway.stream(api) as stream:
        stream.wait_sync()
        threads = len(gateway.metrics().get("rostergate_loop_wakeups_total", {}))
        assert threads >= 3, "rostergate_loop_wakeups_total has a series per loop"
        loops = gateway.metric("rostergate_loop_wakeups_total")
        switches = gateway.context_switches()
        start = time.monotonic()
        wait_until(lambda: time.monotonic() - start >= 10, 30, "ten seconds", every=0.5)
        seconds = time.monotonic() - start
        woken = gateway.metric("rostergate_loop_wakeups_total") - loops
        switched = gateway.context_switches() - switches
        # 1 s ticks of liveness per loop would be `threads` a second; reading /metrics itself costs a few.
        print(f"{woken:.0f} wake-ups, {switched} context switches, {threads} loops, {seconds:.1f} s")
        assert woken <= threads * seconds * 1.2 + 40, f"{woken:.0f} wake-ups in {seconds:.1f} s"
        assert switched <= threads * seconds * 2 + 200, f"{switched} context switches"
        assert not stream.ended.is_set()
        fake.change("juliet", Item("alive@example.com"))
        stream.wait_item("alive@example.com")


def test_half_a_first_line_is_waited_for_at_rest(fake, make_gateway):
    """What the acceptor has seen and left in the socket wakes it no second time."""
    gateway = make_gateway(fake)
    socks = [socket.create_connection(gateway.address, timeout=deadline(20)) for _ in range(20)]
    for number, sock in enumerate(socks):
        sock.sendall(b"GET /v1/events"[:1 + number % 14])
    before, start = gateway.metric("rostergate_loop_wakeups_total"), time.monotonic()
    for sock in socks:
        with sock, pytest.raises(ConnectionResetError):     # given up, its bytes unread
            sock.recv(1)
    woken = gateway.metric("rostergate_loop_wakeups_total") - before
    threads, seconds = len(gateway.metrics()["rostergate_loop_wakeups_total"]), time.monotonic() - start
    assert woken <= threads * seconds * 1.2 + 200, f"{woken:.0f} wake-ups in {seconds:.1f} s"


def test_half_a_first_line_and_the_rest_of_it(fake, make_gateway):
    gateway = make_gateway(fake)
    fake.add("juliet")
    api = gateway.sign_in("juliet@example.com")
    head = f"GET /v1/roster HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n"
    for cut in range(1, 9):
        with socket.create_connection(gateway.address, timeout=deadline(20)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(head[:cut].encode())
            wait_until(lambda: api.get("/v1/roster").status == 200, what="others are served meanwhile")
            sock.sendall((head[cut:] + "Connection: close\r\n\r\n").encode())
            assert sock.recv(12) == b"HTTP/1.1 200", cut
