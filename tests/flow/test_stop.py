"""Stopping: in order, with everything in flight, and at once when asked twice (DESIGN 5, Stop)."""
import signal
import socket
import threading
import time

import pytest

from fakes import misbehaviour
from fakes.roster_model import Item
from fakes.support import deadline, wait_until


@pytest.fixture
def juliet(fake, gateway):
    fake.add("juliet", items=[Item("romeo@example.net")])
    return gateway.sign_in("juliet@example.com")


def test_idle(gateway):
    start = time.monotonic()
    gateway.stop()
    assert time.monotonic() - start < deadline(10)


def test_with_streams_sessions_polls_and_a_write_in_flight(fake, gateway, juliet):
    held = []
    fake.hook("roster_set", lambda session, element: held.append((session, element)) or True, times=1)
    streams = [gateway.stream(juliet) for _ in range(10)]
    for stream in streams:
        stream.wait_sync()
    answers = {}

    def poll():
        answers["poll"] = juliet.with_token(juliet.token).get(
            f"/v1/roster/changes?since={juliet.session['version']}&wait=60")

    def write():
        answers["write"] = juliet.with_token(juliet.token).put_item("nurse@example.com")

    threads = [threading.Thread(target=poll), threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    wait_until(lambda: held, what="the write")
    idle = juliet.connect()
    closed = []
    fake.hook("close", lambda session, _: closed.append(session) and False)
    gateway.terminate()
    for stream in streams:
        assert stream.wait_for("bye", 20).json == {"reason": "drain", "reconnect": True}
        stream.wait_end(20)
        assert stream.ended_properly
    session, element = held[0]
    fake.reactor.call(session.answer_roster_set, element)
    for thread in threads:
        thread.join(deadline(30))
    assert answers["write"].status in (201, 504, 503), answers
    assert answers["poll"].status in (200, 503), answers
    gateway.stop()
    assert closed, "the XMPP stream was not closed in order"
    idle.close()


def test_new_connections_are_refused_and_readiness_says_so(fake, gateway, juliet):
    """While a write holds the stop up, /readyz is 503 and nothing new is accepted."""
    held = []
    fake.hook("roster_set", lambda session, element: held.append((session, element)) or True)
    thread = threading.Thread(target=lambda: juliet.with_token(juliet.token).put_item("a@example.com"))
    thread.start()
    wait_until(lambda: held, what="the write")
    gateway.terminate()

    def not_ready():
        try:
            return gateway.operations("/readyz").status == 503
        except OSError:
            return not gateway.child.running()
    wait_until(not_ready, 10, "/readyz 503")

    def refused():
        try:
            with socket.create_connection(("127.0.0.1", gateway.port), timeout=2) as sock:
                sock.sendall(b"GET /v1/roster HTTP/1.1\r\nHost: x\r\n\r\n")
                return sock.recv(100).split(b" ")[1:2] in ([], [b"503"])
        except OSError:
            return True
    wait_until(refused, 10, "new connections are refused")
    for session, element in held:
        fake.reactor.call(session.answer_roster_set, element)
    thread.join(deadline(20))


def test_a_second_signal_stops_at_once(fake, make_gateway):
    gateway = make_gateway(fake, xmpp={"iq_timeout": "60s"})
    gateway.expect_exit = None
    fake.add("juliet")
    api = gateway.sign_in("juliet@example.com")
    held = []
    fake.hook("roster_set", lambda session, element: held.append(1) or True)
    threading.Thread(target=lambda: _quietly(api.with_token(api.token)), daemon=True).start()
    wait_until(lambda: held, what="the write")
    workers = gateway.worker_pids()
    gateway.child.signal(signal.SIGTERM)
    wait_until(lambda: gateway.operations("/readyz").status == 503, what="the first signal is seen")
    start = time.monotonic()
    gateway.child.signal(signal.SIGTERM)
    gateway.child.wait(10)
    assert time.monotonic() - start < deadline(5)
    wait_until(lambda: not any(_alive(pid) for pid in workers), 10, "the workers end too")


def _quietly(api):
    try:
        api.put_item("a@example.com")
    except OSError:
        pass


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_sigint_is_sigterm(gateway):
    gateway.terminate(signal.SIGINT)
    gateway.stop()


def test_workers_end_when_the_front_is_killed(fake, gateway, juliet):
    workers = gateway.worker_pids()
    assert workers
    gateway.kill()
    wait_until(lambda: not any(_alive(pid) for pid in workers), 15, "the workers end with the front")
    wait_until(lambda: not fake.sessions, 15, "their connections are closed")


def test_with_a_server_that_does_not_close(fake, gateway, juliet):
    """The XMPP server ignores </stream:stream>: the stop waits two seconds for it, not for ever."""
    fake.hook("close", misbehaviour.silent)
    start = time.monotonic()
    gateway.stop()
    assert time.monotonic() - start < deadline(15)


def test_during_a_stalled_handshake(fake, gateway):
    fake.add("juliet")
    stalled = threading.Event()

    def stall(session, element):
        stalled.set()
        return misbehaviour.stall_tls(session, element)
    fake.hook("starttls", stall)
    thread = threading.Thread(target=lambda: _sign_in_quietly(gateway.api()))
    thread.start()
    assert stalled.wait(deadline(10))
    start = time.monotonic()
    gateway.stop()
    assert time.monotonic() - start < deadline(20)
    thread.join(deadline(20))


def _sign_in_quietly(api):
    try:
        response = api.try_sign_in("juliet@example.com")
        assert response.status in (502, 503, 504), response
    except OSError:
        pass
