"""GET /v1/events: what comes, in which order, and how it resumes (API 5)."""
import json
import re

import pytest

from fakes.roster_model import Item, removal
from fakes.sites import SEED, item
from fakes.sse import SseClient
from fakes.support import wait_until

ROMEO = Item("romeo@example.net", "Romeo", ["Friends"], "both")


@pytest.fixture
def juliet(fake_site):
    """(name, client) of a fresh account at the module's fake server."""
    jid, api = fake_site.signed_in([SEED[2]])
    return jid.partition("@")[0], api


def change(site, name, jid, label):
    site.server.change(name, Item(jid, label))


def test_headers_and_first_bytes(fake_site, juliet):
    with fake_site.gateway.stream(juliet[1]) as stream:
        stream.wait_sync()
        assert stream.headers["content-type"].split(";")[0] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers["x-accel-buffering"] == "no"
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", stream.headers["x-request-id"])
        assert stream.first == "retry" and stream.retry > 0


def test_a_fresh_stream_is_snapshot_then_sync(fake_site, juliet):
    name, api = juliet
    with fake_site.gateway.stream(api) as stream:
        sync = stream.wait_sync()
        assert [n for n in stream.names() if n in ("roster", "sync")] == ["roster", "sync"]
        roster = stream.wait_for("roster")
        assert roster.json == api.roster()
        assert roster.id == sync.id == api.session["version"]
        assert sync.json == {"version": sync.id, "state": "live", "resumed": False}


def test_changes_come_once_each_with_rising_ids(fake_site, juliet):
    name, api = juliet
    with fake_site.gateway.stream(api) as stream:
        stream.wait_sync()
        for n in range(20):
            change(fake_site, name, f"friend{n:02d}@example.com", f"Friend {n}")
        fake_site.server.change(name, removal("friend00@example.com"))
        last = stream.wait_removed("friend00@example.com")
        sets = [e for e in stream.events.all() if e.name == "roster.set"]
        assert [e.json["item"]["jid"] for e in sets] == [f"friend{n:02d}@example.com"
                                                         for n in range(20)]
        assert api.roster()["version"] == last.id
        assert stream.roster() == api.items()


def test_a_push_that_changes_nothing_is_no_event(fake_site, juliet):
    name, api = juliet
    with fake_site.gateway.stream(api) as stream:
        sync = stream.wait_sync()
        fake_site.server.push_raw(name, ROMEO.xml(), ver="77")
        change(fake_site, name, "last@example.com", "Last")
        last = stream.wait_item("last@example.com")
        assert int(last.id.rpartition("-")[2]) == int(sync.id.rpartition("-")[2]) + 1


@pytest.mark.parametrize("by", ["Last-Event-ID", "since"])
def test_resume_replays_what_was_missed_and_nothing_else(fake_site, juliet, by):
    name, api = juliet
    with fake_site.gateway.stream(api) as stream:
        seen = stream.wait_sync().id
    change(fake_site, name, "a@example.com", "A")
    change(fake_site, name, "b@example.com", "B")
    fake_site.server.change(name, removal("a@example.com"))
    wait_until(lambda: "b@example.com" in api.items() and "a@example.com" not in api.items(),
               what="the changes")
    how = {"last_event_id": seen} if by == "Last-Event-ID" else {"query": "since=" + seen}
    with fake_site.gateway.stream(api, **how) as stream:
        sync = stream.wait_sync()
        events = [e for e in stream.events.all() if e.name.startswith("roster") or e.name == "sync"]
        assert [e.name for e in events] == ["roster.set", "roster.set", "roster.remove", "sync"]
        assert sync.json == {"version": api.roster()["version"], "state": "live", "resumed": True}
        # And live from here.
        change(fake_site, name, "c@example.com", "C")
        stream.wait_item("c@example.com")


def test_resume_from_the_current_version_is_sync_only(fake_site, juliet):
    _, api = juliet
    version = api.roster()["version"]
    with fake_site.gateway.stream(api, last_event_id=version) as stream:
        sync = stream.wait_sync()
        assert sync.id == version and sync.json["resumed"] is True
        assert [n for n in stream.names() if n.startswith("roster")] == []


@pytest.mark.parametrize("unknown", ["x-1", "AAAA.BBBB-1", "0", "", "-", "a" * 64, "a" * 65, "a" * 3000,
                                     "../etc", "1-18446744073709551616", "epoch.mark--1"])
@pytest.mark.parametrize("by", ["Last-Event-ID", "since"])
def test_resume_from_an_unknown_version_is_a_snapshot(fake_site, juliet, unknown, by):
    _, api = juliet
    how = {"last_event_id": unknown} if by == "Last-Event-ID" else {"query": "since=" + unknown}
    with fake_site.gateway.stream(api, **how) as stream:
        sync = stream.wait_sync()
        assert [n for n in stream.names() if n in ("roster", "sync")] == ["roster", "sync"]
        assert sync.json["resumed"] is False


def test_a_version_of_the_future_or_of_another_user_is_unknown(fake_site, juliet):
    _, api = juliet
    prefix, _, seq = api.roster()["version"].rpartition("-")
    _, other = fake_site.signed_in([SEED[2]])
    for version in (f"{prefix}-{int(seq) + 1}", f"{prefix}-{int(seq) + 1000000}",
                    other.roster()["version"]):
        with fake_site.gateway.stream(api, last_event_id=version) as stream:
            stream.wait_sync()
            assert "roster" in stream.names(), version


def test_last_event_id_wins_over_since(fake_site, juliet):
    name, api = juliet
    old = api.roster()["version"]
    change(fake_site, name, "a@example.com", "A")
    wait_until(lambda: "a@example.com" in api.items(), what="the change")
    new = api.roster()["version"]
    with fake_site.gateway.stream(api, query="since=" + old, last_event_id=new) as stream:
        stream.wait_sync()
        assert "roster.set" not in stream.names()


def test_since_now_is_sync_only(fake_site, juliet):
    name, api = juliet
    with fake_site.gateway.stream(api, query="since=now") as stream:
        sync = stream.wait_sync()
        assert [n for n in stream.names() if n.startswith("roster")] == []
        assert sync.id == api.roster()["version"]
        change(fake_site, name, "a@example.com", "A")
        stream.wait_item("a@example.com")


def test_get_then_stream_leaves_no_gap(fake_site, juliet):
    """GET /v1/roster, then GET /v1/events?since=VERSION (API 3)."""
    name, api = juliet
    held = api.roster()
    change(fake_site, name, "between@example.com", "Between")
    with fake_site.gateway.stream(api, query="since=" + held["version"]) as stream:
        stream.wait_item("between@example.com")
        stream.wait_sync()
        assert "roster" not in stream.names()


def test_two_streams_of_one_user_get_the_same(fake_site, juliet):
    name, api = juliet
    with fake_site.gateway.stream(api) as one, fake_site.gateway.stream(api) as two:
        one.wait_sync()
        two.wait_sync()
        change(fake_site, name, "a@example.com", "A")
        assert one.wait_item("a@example.com").data == two.wait_item("a@example.com").data


def test_streams_of_two_users_get_their_own_only(fake_site, juliet):
    name, api = juliet
    other_jid, other = fake_site.signed_in()
    with fake_site.gateway.stream(api) as mine, fake_site.gateway.stream(other) as theirs:
        mine.wait_sync()
        theirs.wait_sync()
        change(fake_site, name, "mine@example.com", "Mine")
        mine.wait_item("mine@example.com")
        change(fake_site, other_jid.partition("@")[0], "theirs@example.com", "Theirs")
        theirs.wait_item("theirs@example.com")
        assert "mine@example.com" not in str(theirs.events.all())
        assert "theirs@example.com" not in str(mine.events.all())


def test_a_name_with_every_line_end_stays_one_event(fake_site, juliet):
    """U+0085, U+2028, U+2029 are no line ends of SSE; LF and CR from a server must not break the frame."""
    name, api = juliet
    with fake_site.gateway.stream(api) as stream:
        stream.wait_sync()
        label = "a\u0085b\u2028c\u2029d"
        change(fake_site, name, "lines@example.com", label)
        assert stream.wait_item("lines@example.com").json["item"]["name"] == label
        fake_site.server.push_raw(name, "<item jid='crlf@example.com' name='x&#10;data: y&#13;z'/>")
        event = stream.wait_item("crlf@example.com")
        assert "\n" not in event.data
        assert json.loads(event.data)["item"]["name"] == "x\ndata: y\rz"


def test_two_last_event_ids_or_tokens_in_the_url_do_not_work(fake_site, juliet):
    _, api = juliet
    bare = api.with_token(None)
    for query in ("token=" + api.token, "access_token=" + api.token):
        stream = SseClient(bare, query)
        assert stream.status in (400, 401), query
    stream = SseClient(bare)
    assert stream.status == 401 and stream.problem()["code"] == "unauthorized"


def test_head_has_headers_only(fake_site, juliet):
    _, api = juliet
    raw = api.raw(f"HEAD /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n"
                  "Connection: close\r\n\r\n".encode())
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and b"text/event-stream" in head
    assert body == b""
    version = api.get("/v1/roster").version
    assert b"Rostergate-Version: " + version.encode() in head.split(b"\r\n")
    refused = api.call("HEAD", "/v1/events", token="rg1.x")
    assert (refused.status, refused.body) == (401, b"")


def test_types_leaves_out_but_ids_go_on(fake_site, juliet):
    name, api = juliet
    with fake_site.gateway.stream(api, query="types=roster.set") as stream:
        sync = stream.wait_sync()
        assert stream.names()[0] == "roster"
        change(fake_site, name, "a@example.com", "A")
        stream.wait_item("a@example.com")
        fake_site.server.change(name, removal("a@example.com"))
        change(fake_site, name, "b@example.com", "B")
        last = stream.wait_item("b@example.com")
        assert "roster.remove" not in stream.names()
        assert int(last.id.rpartition("-")[2]) == int(sync.id.rpartition("-")[2]) + 3


def test_types_always_lets_through_what_a_client_needs(fake_site, juliet):
    _, api = juliet
    with fake_site.gateway.stream(api, query="types=ping") as stream:
        stream.wait_sync()
        assert "roster" in stream.names()
        api.delete("/v1/session")
        assert stream.wait_for("bye").json["reason"] == "signed-out"


def test_ping(fake_site, juliet):
    _, api = juliet
    with fake_site.gateway.stream(api, query="ping=5") as stream:
        stream.wait_sync()
        assert stream.wait_for("ping", timeout=15).json == {"interval": 5}


@pytest.mark.parametrize("query", ["ping=4", "ping=301", "ping=", "ping=x", "ping=5&ping=5", "types=",
                                   "types=nothing", "types=roster,nothing", "x=1",
                                   "since=now&since=now", "types=roster.set,", "ping=%35%zz"])
def test_bad_queries(fake_site, juliet, query):
    _, api = juliet
    stream = SseClient(api, query)
    assert stream.status == 400, query
    assert stream.problem()["code"] in ("invalid-query", "unknown-parameter", "bad-request")


def test_an_item_changed_by_a_write_here_is_one_event(fake_site, juliet):
    """A write's answer and the stream never tell different stories: one change, one event."""
    _, api = juliet
    with fake_site.gateway.stream(api) as stream:
        stream.wait_sync()
        version = api.put_item("nurse@example.com", "Nurse", ["A"]).version
        event = stream.wait_item("nurse@example.com")
        assert event.id == version
        assert event.json["item"] == item("nurse@example.com", "Nurse", ["A"])
        api.put_item("nurse@example.com", "Nurse", ["A"])
        version = api.delete_item("nurse@example.com").version
        assert stream.wait_removed("nurse@example.com").id == version
        assert [n for n in stream.names() if n.startswith("roster.")] == ["roster.set",
                                                                          "roster.remove"]
