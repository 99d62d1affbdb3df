"""PUT, PATCH and DELETE of one item, conditional or not (API 3)."""
import threading

import pytest

from fakes.roster_model import Item
from fakes.sites import SEED, item
from fakes.support import wait_until

ROMEO = "romeo@example.net"
PATH = "/v1/roster/items/" + ROMEO


@pytest.fixture
def juliet(site):
    return site.signed_in(SEED)[1]


def test_patch_changes_only_what_it_names(juliet):
    """R28: the whole item goes to the server, so nothing is lost."""
    response = juliet.patch(PATH, {"name": "R"})
    assert response.status == 200
    assert response.json()["item"] == item(ROMEO, "R", ["Friends"], "both")
    assert juliet.patch(PATH, {"groups": ["A", "B"]}).json()["item"] == item(ROMEO, "R", ["A", "B"],
                                                                             "both")
    assert juliet.patch(PATH, {"name": None}).json()["item"] == item(ROMEO, None, ["A", "B"], "both")
    assert juliet.patch(PATH, {"groups": None}).json()["item"] == item(ROMEO, None, [], "both")
    version = juliet.roster()["version"]
    for nothing in ({}, {"name": None}, {"groups": []}):
        response = juliet.patch(PATH, nothing)
        assert response.status == 200 and response.json()["version"] == version, nothing


def test_patch_of_what_is_not_there(juliet):
    response = juliet.patch("/v1/roster/items/nobody@example.com", {"name": "x"})
    assert (response.status, response.code) == (404, "item-not-found")


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/json-patch+json", None])
def test_patch_wants_merge_patch(juliet, kind):
    response = juliet.call("PATCH", PATH, b'{"name": "x"}',
                           headers={"Content-Type": kind} if kind else None)
    assert (response.status, response.code) == (415, "unsupported-media-type")


@pytest.mark.parametrize("body,member", [({"name": 7}, "name"), ({"groups": [None]}, "groups"),
                                         ({"subscription": None}, "subscription"), ([], None),
                                         ({"jid": None}, "jid"), ({"groups": ["a", "a"]}, "groups")])
def test_bad_patches(juliet, body, member):
    response = juliet.patch(PATH, body)
    assert (response.status, response.code) == (422, "invalid-item")
    assert member is None or member in response.json()["detail"]


@pytest.mark.parametrize("form", ['"{}"', 'W/"{}"', '"{}+gzip"', '"other", "{}"', "*"])
def test_if_match_holds(juliet, form):
    tag = juliet.get(PATH).header("ETag").strip('"')
    assert juliet.patch(PATH, {"name": "R"}, headers={"If-Match": form.format(tag)}).status == 200


def test_if_match_by_the_version_of_the_roster(juliet):
    """It holds as long as this item has not changed since, whatever else did."""
    version = juliet.roster()["version"]
    assert juliet.put_item("benvolio@example.com", "Ben").status == 200
    assert juliet.put(PATH, {"name": "R"}, headers={"If-Match": f'"{version}"'}).status == 200
    late = juliet.put(PATH, {"name": "S"}, headers={"If-Match": f'"{version}"'})
    assert (late.status, late.code) == (412, "version-mismatch")
    assert juliet.items()[ROMEO]["name"] == "R"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_if_match_that_does_not_hold(juliet, method):
    before = juliet.roster()
    kind = {"PUT": "application/json", "PATCH": "application/merge-patch+json"}.get(method)
    body = {"name": "x"} if method != "DELETE" else None
    for value in ('"x"', '"AAAA.BBBB-1"', f'"{"v" * 65}"'):
        response = juliet.call(method, PATH, json_body=body, content_type=kind,
                               headers={"If-Match": value})
        assert (response.status, response.code) == (412, "version-mismatch"), response
    missing = juliet.call(method, "/v1/roster/items/nobody@example.com", json_body=body,
                          content_type=kind, headers={"If-Match": "*"})
    assert missing.status == 412 or (method != "PUT" and missing.status == 404), missing
    assert juliet.roster() == before


def test_create_only(juliet):
    headers = {"If-None-Match": "*"}
    assert juliet.put_item("new@example.com", "New", headers=headers).status == 201
    response = juliet.put_item("new@example.com", "Other", headers=headers)
    assert (response.status, response.code) == (412, "version-mismatch")
    assert juliet.items()["new@example.com"]["name"] == "New"


@pytest.mark.parametrize("method,kind", [("PUT", "application/json"), ("DELETE", None),
                                         ("PATCH", "application/merge-patch+json")])
def test_not_if_it_is_the_one_that_is_named(site, method, kind):
    """RFC 9110 13.1.2: the method is not done if the item's tag is listed."""
    api = site.signed_in(SEED)[1]
    tag = api.get(PATH).header("ETag")
    body = {"name": "x"} if method != "DELETE" else None
    for listed in (tag, f'"AAAA.BBBB-1", {tag}', "W/" + tag):
        response = api.call(method, PATH, json_body=body, content_type=kind,
                            headers={"If-None-Match": listed})
        assert (response.status, response.code) == (412, "version-mismatch"), response
    response = api.call(method, PATH, json_body=body, content_type=kind,
                        headers={"If-None-Match": '"AAAA.BBBB-1"'})
    assert response.status in (200, 204), response


def test_of_several_with_the_same_if_match_one_wins(site):
    jid, api = site.signed_in(SEED)
    tag = api.get(PATH).header("ETag")
    statuses, names = [], [f"Name {n}" for n in range(8)]

    def write(name):
        client = api.with_token(api.token)
        statuses.append((client.put(PATH, {"name": name}, headers={"If-Match": tag}).status, name))

    threads = [threading.Thread(target=write, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [name for status, name in statuses if status == 200]
    assert len(winners) == 1 and sorted(s for s, _ in statuses) == [200] + [412] * 7
    assert api.items()[ROMEO]["name"] == winners[0]


def test_every_write_carries_the_version_that_shows_it(juliet):
    for n in range(5):
        written = juliet.put_item(f"friend{n}@example.com", f"Friend {n}")
        read = juliet.get("/v1/roster")
        assert read.version == written.version == written.json()["version"]
        deleted = juliet.delete_item(f"friend{n}@example.com")
        assert juliet.get("/v1/roster").version == deleted.version


def test_repeating_a_write_is_safe(juliet):
    first = juliet.put_item("nurse@example.com", "Nurse", ["A"])
    again = juliet.put_item("nurse@example.com", "Nurse", ["A"])
    assert (first.status, again.status) == (201, 200)
    assert first.json() == again.json()


def test_a_full_jid_that_the_server_holds_is_shown_and_deleted(fake, gateway):
    """Shown, read and deleted under it; writing one is 422 (API 1)."""
    fake.add("juliet", items=[Item("romeo@example.net/balcony", "Romeo")])
    api = gateway.sign_in("juliet@example.com")
    path = "/v1/roster/items/romeo@example.net%2Fbalcony"
    assert api.get(path).json()["item"] == item("romeo@example.net/balcony", "Romeo")
    response = api.put(path, {"name": "x"})
    assert (response.status, response.code) == (422, "invalid-jid")
    assert api.delete(path).status == 204
    assert api.items() == {}


def test_many_writers_of_one_account_keep_order(fake, gateway):
    """Writes to one account keep their order; the stream shows each state once."""
    fake.add("juliet")
    api = gateway.sign_in("juliet@example.com")
    with gateway.stream(api) as stream:
        stream.wait_sync()
        for n in range(30):
            assert api.put_item("one@example.com", f"Name {n}").status in (200, 201)
        stream.wait_item("one@example.com", "Name 29")
        names = [e.json["item"]["name"] for e in stream.events.all() if e.name == "roster.set"]
        assert names == [f"Name {n}" for n in range(30)]


def test_the_limit_of_writes_per_second(fake, make_gateway):
    gateway = make_gateway(fake, limits={"writes_user": 1})
    fake.add("juliet")
    api = gateway.sign_in("juliet@example.com")
    answers = [api.put_item("one@example.com", f"Name {n}") for n in range(30)]
    refused = [a for a in answers if a.status == 429]
    assert refused and refused[0].code == "too-many-requests"
    assert int(refused[0].header("Retry-After")) >= 1
    wait_until(lambda: api.put_item("one@example.com", "Later").status == 200, 5, "a free second", 0.1)
