"""GET /v1/roster and one item: ETags, 304, gzip, HEAD, no-cache, stale reads (API 1, 3, 6)."""
import gzip
import json

import pytest

from fakes import misbehaviour
from fakes.roster_model import Item, removal
from fakes.sites import SEED, item
from fakes.support import wait_until


@pytest.fixture
def juliet(fake_site):
    jid, api = fake_site.signed_in(SEED)
    api.name = jid.partition("@")[0]
    return api


def test_items_have_all_members_and_are_sorted(fake_site):
    _, api = fake_site.signed_in([
        {"jid": "z@example.com"}, {"jid": "a@example.com", "name": "", "groups": ["b", "a", "B"]},
        {"jid": "icq.example.com", "subscription": "to"},
        {"jid": "m@example.com", "subscription": "none", "ask": "subscribe", "approved": True}])
    items = api.roster()["items"]
    assert items == [item("a@example.com", None, ["B", "a", "b"]), item("icq.example.com", None, [], "to"),
                     item("m@example.com", None, [], "none", "subscribe", True), item("z@example.com")]
    assert items[0]["groups"] == ["B", "a", "b"]


@pytest.mark.parametrize("form", ['"{}"', 'W/"{}"', '"{}+gzip"', 'W/"{}+gzip"', '"x", "{}"',
                                  '"x" , W/"{}+gzip" ,"y"', "*"])
def test_if_none_match_in_every_form(juliet, form):
    version = juliet.session["version"]
    response = juliet.get("/v1/roster", headers={"If-None-Match": form.format(version)})
    assert (response.status, response.body) == (304, b"")
    assert response.header("ETag") == f'"{version}"'
    assert response.version == version
    assert response.header("Vary")


@pytest.mark.parametrize("form", ['"x"', "{}", '"{}x"', '"{}+gzi"', '"{}+br"', 'w/"{}"', '""', "'{}'"])
def test_if_none_match_that_does_not_match(juliet, form):
    headers = {"If-None-Match": form.format(juliet.session["version"])}
    response = juliet.get("/v1/roster", headers=headers)
    assert response.status == 200 and len(response.json()["items"]) == 3


def test_304_only_if_nothing_differs(fake_site, juliet):
    tag = juliet.get("/v1/roster").header("ETag")
    fake_site.server.change(juliet.name, Item("new@example.com"))
    wait_until(lambda: juliet.get("/v1/roster", headers={"If-None-Match": tag}).status == 200,
               what="the change")
    fake_site.server.change(juliet.name, removal("new@example.com"))
    wait_until(lambda: len(juliet.items()) == 3, what="the change back")
    # The same content under another version: never 304 for the old one is not asked, only honesty.
    response = juliet.get("/v1/roster", headers={"If-None-Match": tag})
    assert response.status == 200 or response.header("ETag") == tag


def test_gzip_by_the_first_reader(juliet):
    plain = juliet.get("/v1/roster")
    packed = juliet.get("/v1/roster", headers={"Accept-Encoding": "gzip"})
    assert packed.status == 200
    assert packed.header("Content-Encoding") == "gzip"
    assert packed.header("ETag") == f'"{juliet.session["version"]}+gzip"'
    assert packed.version == juliet.session["version"]
    assert gzip.decompress(packed.body) == plain.body
    assert "accept-encoding" in packed.header("Vary").lower()
    assert "accept-encoding" in plain.header("Vary").lower()
    again = juliet.get("/v1/roster", headers={"Accept-Encoding": "gzip",
                                              "If-None-Match": packed.header("ETag")})
    assert again.status == 304


@pytest.mark.parametrize("accepted,packed", [
    ("gzip;q=0", False), ("identity", False), ("br", False), ("*;q=0", False), ("deflate, gzip", True),
    ("gzip;q=0.5", True), ("GZIP", True), ("x-gzipp", False), ("gzip ; q=0.000", False), ("", False)])
def test_which_encodings_are_taken(juliet, accepted, packed):
    response = juliet.get("/v1/roster", headers={"Accept-Encoding": accepted})
    assert response.status == 200
    assert (response.header("Content-Encoding") == "gzip") is packed


@pytest.mark.parametrize("path", ["/v1/roster", "/v1/session", "/v1/roster/items/romeo@example.net",
                                  "/v1/openapi.json", "/rostergate.js", "/v1/problems/unauthorized"])
def test_head_is_get_without_body(juliet, path):
    get, head = juliet.get(path), juliet.call("HEAD", path)
    assert (head.status, head.body) == (get.status, b"") == (200, b"")
    for name in ("Content-Type", "ETag", "Content-Length", "Cache-Control", "Rostergate-Version"):
        assert head.header(name) == get.header(name), name


def test_a_cached_read_costs_no_round_trip(fake_site, juliet):
    fake = fake_site.server
    juliet.get("/v1/roster")
    before = len(fake.gets(juliet.name))
    for _ in range(20):
        response = juliet.get("/v1/roster")
    assert response.header("Cache-Status").startswith("rostergate; hit")
    assert len(fake.gets(juliet.name)) == before


def test_no_cache_reads_again_from_the_xmpp_server(fake_site, juliet):
    """A change that the server never pushed (shared groups) is found."""
    fake = fake_site.server
    fake.reactor.call(fake.accounts[juliet.name].put, Item("quiet@example.com", "Quiet"))
    assert "quiet@example.com" not in juliet.items()
    response = juliet.get("/v1/roster", headers={"Cache-Control": "no-cache"})
    assert response.status == 200
    assert "quiet@example.com" in [i["jid"] for i in response.json()["items"]]
    assert response.version != juliet.session["version"]
    assert "quiet@example.com" in juliet.items()


def test_item_etag_is_the_version_of_its_last_change(fake_site, juliet):
    romeo = "/v1/roster/items/romeo@example.net"
    first = juliet.get(romeo)
    assert first.status == 200
    juliet.put_item("benvolio@example.com", "Ben")
    second = juliet.get(romeo)
    assert second.header("ETag") == first.header("ETag")
    assert juliet.get(romeo, headers={"If-None-Match": first.header("ETag")}).status == 304
    changed = juliet.put_item("romeo@example.net", "R", ["Friends"])
    third = juliet.get(romeo)
    assert third.header("ETag").strip('"') == changed.version == third.version
    assert juliet.get(romeo, headers={"If-None-Match": first.header("ETag")}).status == 200


@pytest.mark.parametrize("subscription,ask,included,excluded", [
    ("none", None, {"request"}, {"cancel", "revoke"}),
    ("none", "subscribe", {"cancel"}, {"revoke"}),
    ("to", None, {"unsubscribe"}, {"request"}),
    ("from", None, {"revoke", "request"}, {"unsubscribe", "cancel"}),
    ("both", None, {"unsubscribe", "revoke"}, {"request", "cancel"})])
def test_allowed_actions_of_each_state(fake_site, subscription, ask, included, excluded):
    _, api = fake_site.signed_in([{"jid": "a@example.com", "subscription": subscription, "ask": ask}])
    allowed = set(api.get("/v1/roster/items/a@example.com").json()["allowed"])
    assert included <= allowed and not excluded & allowed, allowed


def test_stale_reads_while_the_server_is_away(fake, make_gateway):
    gateway = make_gateway(fake)
    fake.add("juliet", items=[Item("romeo@example.net", "Romeo")])
    api = gateway.sign_in("juliet@example.com")
    fresh = api.get("/v1/roster")
    assert "stale" not in fresh.header("Cache-Status")
    fake.go_away()
    wait_until(lambda: "detail=stale" in api.get("/v1/roster").header("Cache-Status"),
               what="the mark of staleness")
    stale = api.get("/v1/roster")
    assert (stale.status, stale.body) == (200, fresh.body)
    assert stale.header("Cache-Status") == "rostergate; hit; detail=stale"
    assert stale.header("Age").isdigit()
    for path in ("/v1/roster/items/romeo@example.net", f"/v1/roster/changes?since={fresh.version}"):
        marked = api.get(path)
        assert marked.status == 200, path
        assert marked.header("Cache-Status") == "rostergate; hit; detail=stale", path
        assert marked.header("Age").isdigit() and marked.version == fresh.version, path
    assert api.get("/v1/session").json()["state"] in ("resuming", "offline")
    write = api.put_item("nurse@example.com")
    assert (write.status, write.code) == (503, "xmpp-unreachable")
    assert int(write.header("Retry-After")) >= 1
    fake.listen()
    wait_until(lambda: api.put_item("nurse@example.com").status == 201, 45, "writes work again", 0.2)
    back = api.get("/v1/roster")
    assert "stale" not in back.header("Cache-Status") and back.header("Age") is None


def test_large_rosters(fake, make_gateway):
    gateway = make_gateway(fake)
    fake.add("juliet", items=misbehaviour.many_items(5000))
    api = gateway.sign_in("juliet@example.com")
    response = api.get("/v1/roster")
    assert len(response.json()["items"]) == 5000
    packed = api.get("/v1/roster", headers={"Accept-Encoding": "gzip"})
    assert json.loads(gzip.decompress(packed.body)) == response.json()
    assert len(packed.body) < len(response.body) / 4


def test_a_roster_over_the_limit_is_refused(fake, make_gateway):
    gateway = make_gateway(fake, limits={"items": 100})
    fake.add("juliet", items=misbehaviour.many_items(101))
    fake.add("romeo", items=misbehaviour.many_items(100))
    response = gateway.api().try_sign_in("juliet@example.com")
    assert response.status in (502, 503), response
    romeo = gateway.sign_in("romeo@example.com")
    assert len(romeo.items()) == 100
    assert romeo.put_item("one-more@example.com").status >= 400
