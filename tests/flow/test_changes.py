"""GET /v1/roster/changes: every change once, oldest first; long poll; 410 (API 3)."""
import threading
import time

import pytest

from fakes.roster_model import Item, removal
from fakes.sites import SEED, item
from fakes.support import deadline, wait_until


@pytest.fixture
def juliet(fake_site):
    jid, api = fake_site.signed_in(SEED)
    api.name = jid.partition("@")[0]
    return api


def changes(api, since, query=""):
    return api.get(f"/v1/roster/changes?since={since}{query}")


def test_nothing_new(juliet):
    version = juliet.session["version"]
    response = changes(juliet, version)
    assert response.status == 200
    assert response.json() == {"since": version, "version": version, "more": False, "changes": []}
    assert response.version == version


def test_every_change_once_and_not_coalesced(fake_site, juliet):
    since = juliet.session["version"]
    for name in ("A", "B", "C"):
        fake_site.server.change(juliet.name, Item("a@example.com", name))
    fake_site.server.change(juliet.name, removal("a@example.com"))
    fake_site.server.change(juliet.name, Item("b@example.com"))
    wait_until(lambda: "b@example.com" in juliet.items(), what="the changes")
    body = changes(juliet, since).json()
    assert [(c["op"], c.get("jid") or c["item"]["jid"], (c.get("item") or {}).get("name"))
            for c in body["changes"]] == [
        ("set", "a@example.com", "A"), ("set", "a@example.com", "B"), ("set", "a@example.com", "C"),
        ("remove", "a@example.com", None), ("set", "b@example.com", None)]
    assert body["since"] == since and body["version"] == juliet.roster()["version"]
    assert body["version"] == body["changes"][-1]["version"] and body["more"] is False
    for change in body["changes"]:
        assert set(change) == ({"version", "op", "item"} if change["op"] == "set"
                               else {"version", "op", "jid"})
    # From the middle, too.
    middle = body["changes"][2]["version"]
    assert changes(juliet, middle).json()["changes"] == body["changes"][3:]


def test_limit_and_more(fake_site, juliet):
    since = juliet.session["version"]
    for n in range(7):
        fake_site.server.change(juliet.name, Item(f"f{n}@example.com"))
    wait_until(lambda: "f6@example.com" in juliet.items(), what="the changes")
    got, at, pages = [], since, 0
    while True:
        body = changes(juliet, at, "&limit=3").json()
        got += [c["item"]["jid"] for c in body["changes"]]
        at, pages = body["version"], pages + 1
        if not body["more"]:
            break
    assert got == [f"f{n}@example.com" for n in range(7)] and pages == 3
    assert at == juliet.roster()["version"]


@pytest.mark.parametrize("since", ["x", "x-1", "AAAA.BBBB-7", "0", "-", "v" * 64, "v" * 65, "v" * 3000,
                                   "%C3%A9", "a%20b", "now", "*"])
def test_unknown_versions_are_410(juliet, since):
    """Whatever it looks like."""
    response = changes(juliet, since)
    assert (response.status, response.code) == (410, "version-expired"), response
    assert response.header("Location") == "/v1/roster"


def test_a_version_of_the_future_or_of_another_mark_is_410(juliet):
    prefix, _, seq = juliet.session["version"].rpartition("-")
    for version in (f"{prefix}-{int(seq) + 1}", f"{prefix[:-1]}{'A' if prefix[-1] != 'A' else 'B'}-{seq}",
                    f"{prefix}-0{seq}", f"{prefix}-+{seq}", f"{prefix}-99999999999999999999999"):
        assert changes(juliet, version).status == 410, version


def test_long_poll_ends_with_the_change(fake_site, juliet):
    since = juliet.session["version"]
    answers = []
    thread = threading.Thread(target=lambda: answers.append(
        changes(juliet.with_token(juliet.token), since, "&wait=30")))
    start = time.monotonic()
    thread.start()
    fake_site.server.change(juliet.name, Item("a@example.com", "A"))
    thread.join(deadline(20))
    assert answers and answers[0].status == 200
    assert [c["item"] for c in answers[0].json()["changes"]] == [item("a@example.com", "A")]
    assert time.monotonic() - start < deadline(10)


def test_long_poll_without_news_ends_empty(juliet):
    version = juliet.session["version"]
    start = time.monotonic()
    response = changes(juliet, version, "&wait=1")
    assert response.json()["changes"] == [] and response.json()["version"] == version
    assert 0.9 <= time.monotonic() - start < deadline(4)


def test_long_poll_is_answered_at_sign_out_and_at_stop(fake, make_gateway):
    gateway = make_gateway(fake)
    fake.add("juliet")
    api = gateway.sign_in("juliet@example.com")
    other = gateway.sign_in("juliet@example.com")
    answers = []
    polls = [threading.Thread(target=lambda c=c: answers.append(
        changes(c.with_token(c.token), c.session["version"], "&wait=60"))) for c in (api, other)]
    for poll in polls:
        poll.start()
    api.delete("/v1/session")
    wait_until(lambda: len(answers) == 1, 20, "the poll of the dead sign-in")
    assert answers[0].status == 401
    api.close()
    gateway.wait_metric("rostergate_http_connections_open", lambda n: n == 1)   # the other's is there
    gateway.stop()
    polls[1].join(deadline(20))
    assert len(answers) == 2 and answers[1].status in (200, 503)


def test_the_journal_is_bounded(fake, make_gateway):
    """The last changes of an account are kept (1,000, 64 KiB); what is older is 410, never a gap."""
    gateway = make_gateway(fake, limits={"writes_user": 100000})
    fake.add("juliet")
    api = gateway.sign_in("juliet@example.com")
    since = api.session["version"]
    for n in range(1200):
        fake.change("juliet", Item("a@example.com", f"{n}"))
    wait_until(lambda: api.items().get("a@example.com", {}).get("name") == "1199", 60, "the changes")
    assert changes(api, since).status == 410
    prefix, _, seq = api.roster()["version"].rpartition("-")
    recent = changes(api, f"{prefix}-{int(seq) - 200}", "&limit=1000").json()
    assert len(recent["changes"]) == 200 and recent["more"] is False
    assert [c["item"]["name"] for c in recent["changes"]] == [str(n) for n in range(1000, 1200)]
