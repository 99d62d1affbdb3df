"""How streams live and end: heartbeat, rotate, expired, drain, slow, limits (API 5)."""
import time

import pytest

from fakes.roster_model import Item
from fakes.sse import SseClient
from fakes.support import deadline, wait_until


@pytest.fixture
def juliet(fake):
    fake.add("juliet", items=[Item("romeo@example.net", "Romeo")])
    return "juliet@example.com"


def test_heartbeats_come_at_their_pace(fake, make_gateway, juliet):
    """A comment every `events.heartbeat` +- 20 %."""
    gateway = make_gateway(fake, events={"heartbeat": "1s"})
    api = gateway.sign_in(juliet)
    with gateway.stream(api) as stream:
        stream.wait_sync()
        since = len(stream.comments)
        wait_until(lambda: len(stream.comments) >= since + 4, 15, "four heartbeats")
        times = [at for at, _ in stream.comments.all()[since:]]
        gaps = [b - a for a, b in zip(times, times[1:])]
        assert all(gap <= deadline(1.6) for gap in gaps), gaps
        assert times[-1] - times[0] >= 0.7 * len(gaps), gaps


def test_rotate_and_nothing_is_lost(fake, make_gateway, juliet):
    gateway = make_gateway(fake, events={"max_age": "2s"})
    api = gateway.sign_in(juliet)
    start = time.monotonic()
    with gateway.stream(api) as stream:
        stream.wait_sync()
        bye = stream.wait_for("bye")
        assert bye.json == {"reason": "rotate", "reconnect": True}
        assert 1.7 <= bye.at - start <= deadline(4)
        stream.wait_end()
        assert stream.ended_properly
    fake.change("juliet", Item("missed@example.com"))
    with gateway.stream(api, last_event_id=stream.last_id()) as again:
        again.wait_item("missed@example.com")
        assert again.wait_sync().json["resumed"] is True


def test_a_stream_ends_with_its_token(fake, make_gateway, juliet):
    """bye `expired`; renewed, it goes on without loss."""
    gateway = make_gateway(fake, session={"lifetime": "5s"})
    api = gateway.sign_in(juliet)
    with gateway.stream(api) as stream:
        stream.wait_sync()
        renewed = api.post("/v1/session/renew", {})
        assert renewed.status == 200, renewed
        bye = stream.wait_for("bye", 15)
        assert bye.json == {"reason": "expired", "reconnect": True}
        stream.wait_end()
    assert api.get("/v1/roster").status == 401
    assert SseClient(api).status == 401


def test_drain_says_bye_to_every_stream(fake, make_gateway, juliet):
    gateway = make_gateway(fake)
    api = gateway.sign_in(juliet)
    streams = [gateway.stream(api) for _ in range(8)]
    for stream in streams:
        stream.wait_sync()
    gateway.stop()
    for stream in streams:
        assert stream.wait_for("bye").json == {"reason": "drain", "reconnect": True}
        stream.wait_end()
        assert stream.ended_properly


def test_streams_of_a_user_are_limited(fake, make_gateway, juliet):
    gateway = make_gateway(fake, limits={"streams_user": 3}, events={"heartbeat": "1s"})
    api = gateway.sign_in(juliet)
    streams = [gateway.stream(api) for _ in range(3)]
    for stream in streams:
        stream.wait_sync()
    refused = SseClient(api)
    assert refused.status == 429 and refused.problem()["code"] == "too-many-requests"
    assert int(refused.headers["retry-after"]) >= 1
    # The oldest is not thrown out, and a place that becomes free is used.
    assert all(not stream.ended.is_set() for stream in streams)
    fake.add("nurse")
    with gateway.stream(gateway.sign_in("nurse@example.com")) as other:
        other.wait_sync()
    streams[0].close()
    fake.change("juliet", Item("wake@example.com"))      # the gateway sees the end when it writes

    def free():
        stream = SseClient(api)
        if stream.status == 200:
            stream.close()
        return stream.status == 200
    wait_until(free, 30, "a free place", every=0.2)


def test_streams_of_the_process_are_limited(fake, make_gateway, juliet):
    gateway = make_gateway(fake, limits={"streams": 2})
    api = gateway.sign_in(juliet)
    streams = [gateway.stream(api) for _ in range(2)]
    for stream in streams:
        stream.wait_sync()
    refused = SseClient(api)
    assert refused.status in (429, 503), refused.body
    assert refused.headers["retry-after"].isdigit()
    assert api.get("/v1/roster").status == 200


def test_gone_clients_are_freed_within_two_heartbeats(fake, make_gateway, juliet):
    gateway = make_gateway(fake, events={"heartbeat": "1s"}, limits={"streams_user": 100})
    api = gateway.sign_in(juliet)
    streams = [gateway.stream(api) for _ in range(20)]
    for stream in streams:
        stream.wait_sync()
    assert gateway.metric("rostergate_streams_open") == 20
    before = gateway.descriptors()
    start = time.monotonic()
    for stream in streams:
        stream.close()
    gateway.wait_metric("rostergate_streams_open", lambda n: n == 0)
    assert time.monotonic() - start < deadline(3.5)
    wait_until(lambda: gateway.descriptors() <= before - 18, what="descriptors given back")


def test_a_client_that_leaves_gives_its_place_back_before_any_heartbeat(fake, make_gateway, juliet):
    """A page that reloads again and again must not lock itself out of streams_user."""
    gateway = make_gateway(fake, events={"heartbeat": "60s"}, limits={"streams_user": 4})
    api = gateway.sign_in(juliet)
    for _ in range(3):
        streams = [gateway.stream(api) for _ in range(4)]
        for stream in streams:
            stream.wait_sync()
        for stream in streams:
            stream.close()
        gateway.wait_metric("rostergate_streams_attached", lambda n: n == 0)


def test_a_reader_that_stops_is_cut_and_costs_others_nothing(fake, make_gateway, juliet):
    """Overflow is final: what it missed is one `roster`, or the stream has ended; never a gap."""
    gateway = make_gateway(fake, limits={"stream_queue_bytes": 65536})
    api = gateway.sign_in(juliet)
    slow = SseClient(api, receive_buffer=4096, read=False)
    assert slow.status == 200
    with gateway.stream(api) as fast:
        fast.wait_sync()
        groups = [f"group {n} " + "g" * 900 for n in range(10)]
        for n in range(200):
            fake.change("juliet", Item("big@example.com", f"Big {n}", groups))
            if n % 4 == 3:              # as many as its queue holds: so it never falls behind
                fast.wait_item("big@example.com", f"Big {n}")
        names = [e.json["item"]["name"] for e in fast.events.all() if e.name == "roster.set"]
        assert names == [f"Big {n}" for n in range(200)]
        assert fast.roster() == api.items()
        slow.start_reading()
        wait_until(lambda: slow.ended.is_set() or (slow.roster() or {}) == api.items(), 40,
                   "the slow reader catches up or is cut")
        assert slow.error is None, slow.error
        if slow.ended.is_set() and slow.roster() != api.items():
            with gateway.stream(api, last_event_id=slow.last_id() or "") as again:
                again.wait_sync()
                held = {**(slow.roster() or {})} if "roster" not in again.names() else {}
                held.update(again.roster() or {})
                assert held == api.items()
    slow.close()


@pytest.mark.slow
def test_no_progress_for_thirty_seconds_ends_a_stream(fake, make_gateway, juliet):
    gateway = make_gateway(fake, limits={"stream_queue_bytes": 65536})
    api = gateway.sign_in(juliet)
    slow = SseClient(api, receive_buffer=4096, read=False)
    groups = [f"group {n} " + "g" * 900 for n in range(10)]
    for n in range(400):
        fake.change("juliet", Item("big@example.com", f"Big {n}", groups))
    gateway.wait_metric("rostergate_streams_open", lambda n: n == 0, timeout=60)
    assert gateway.metric("rostergate_streams_closed_total", "slow") == 1
    slow.close()


def test_stream_while_the_server_is_away(fake, make_gateway, juliet):
    """Roster cached: the stream opens, `session` resuming before `sync`, live again when it is back."""
    gateway = make_gateway(fake)
    api = gateway.sign_in(juliet)
    fake.go_away()
    wait_until(lambda: api.get("/v1/session").json()["state"] != "live", what="the cut to be seen")
    with gateway.stream(api) as stream:
        sync = stream.wait_sync()
        names = stream.names()
        assert names.index("session") < names.index("sync")
        assert stream.wait_for("session").json["state"] == "resuming"
        assert sync.json["state"] == "resuming"
        fake.listen()
        stream.wait_for(lambda e: e.name == "session" and e.json["state"] == "live", timeout=45)
        fake.wait_session("juliet")
        fake.change("juliet", Item("back@example.com"))
        stream.wait_item("back@example.com")
