"""Paths, JIDs in paths, query strings, methods (API 3, 6, 7)."""
import urllib.parse

import pytest

from fakes.sites import SEED


@pytest.fixture(scope="module")
def person(fake_site):
    jid, api = fake_site.signed_in(SEED)
    api.name = jid.partition("@")[0]
    api.held = api.roster()
    return api


def untouched(fake_site, person):
    assert person.roster() == person.held
    assert fake_site.server.sets(person.name) == []


BAD_ENCODING = ["%", "%4", "%zz", "a%", "a%2", "%00", "a%00b@example.com", "%ff", "%c3", "%c3%28",
                "%ed%a0%80", "%c0%af", "%f4%90%80%80", "%%", "a%0", "%u0041", "\\x00"]


@pytest.mark.parametrize("segment", BAD_ENCODING)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_malformed_percent_encoding(fake_site, person, segment, method):
    response = person.call(method, "/v1/roster/items/" + segment,
                           json_body={"name": "x"} if method == "PUT" else None)
    wanted = ((422, "invalid-jid"),) if segment == "\\x00" else ((400, "bad-request"),)
    assert (response.status, response.code) in wanted, response
    untouched(fake_site, person)


# As bare JIDs: no such thing by RFC 6122 (nodeprep, nameprep), or too long, or somebody's resource.
BAD_JIDS = ["@", "@example.com", "nurse@", "a@b@c", " ", "nurse @example.com", "nu rse@example.com",
            "nurse@exa mple.com", "nurse@example.com ", "\u00a0@example.com", "nurse\t@example.com",
            "nurse\n@example.com", "nurse\x7f@example.com", '"nurse"@example.com',
            "nurse&@example.com", "nurse'@example.com", "nurse:@example.com", "nurse<@example.com",
            "nurse>@example.com", "nurse@.", "nurse@..", "nurse@example..com", "nurse@-",
            "\u200b@example.com", "\u202e@example.com", "\ufffe@example.com", "\ue000@example.com",
            "nurse@exa\u200emple.com", "a" * 1024 + "@example.com", "nurse@" + "d" * 1024,
            "nurse@" + "d" * 64 + ".com", "nurse@example.com/balcony", "example.com/x",
            "nurse@example.com/", "/", "/nurse@example.com"]


@pytest.mark.parametrize("jid", BAD_JIDS, ids=range(len(BAD_JIDS)))
def test_what_is_no_bare_jid_cannot_be_written(fake_site, person, jid):
    path = "/v1/roster/items/" + urllib.parse.quote(jid, safe="@")
    response = person.put(path, {"name": "x"})
    assert (response.status, response.code) == (422, "invalid-jid"), (jid, response)
    response = person.get(path)
    assert response.status in (404, 422), (jid, response)
    response = person.delete(path)
    assert response.status in (404, 422), (jid, response)
    untouched(fake_site, person)


def test_a_slash_in_a_segment_is_no_separator(fake_site, person):
    """`%2F` belongs to the JID: a resource, never another path."""
    response = person.put("/v1/roster/items/nurse@example.com%2Fsubscription", {"name": "x"})
    assert (response.status, response.code) == (422, "invalid-jid")
    response = person.get("/v1%2Froster")
    assert (response.status, response.code) == (404, "not-found")
    untouched(fake_site, person)


def test_percent_encoding_is_undone_once(fake_site, person):
    response = person.get("/v1/roster/items/romeo%2540example.net")
    assert response.status in (404, 422)
    assert person.get("/v1/roster/items/romeo%40example.net").status == 200
    assert person.get("/v1/roster/items/%72omeo%40%65xample.net").status == 200


def test_look_alikes_are_other_jids(fake_site, person):
    """A Cyrillic o is not a Latin one; width and case are folded by nodeprep (NFKC)."""
    assert person.get("/v1/roster/items/" + urllib.parse.quote("r\u043emeo@example.net")).status == 404
    full_width = urllib.parse.quote("\uff52\uff4f\uff4d\uff45\uff4f@example.net")
    assert person.get("/v1/roster/items/" + full_width).status == 200
    assert person.get("/v1/roster/items/ROMEO%40EXAMPLE.NET").status == 200


UNKNOWN_PATHS = ["/", "/v1", "/v1/", "/v2/roster", "/v1/roster/", "/v1/roster/item", "/v1/roster/items",
                 "/v1/roster/items/", "/v1/roster/items/romeo@example.net/",
                 "/v1/roster/items/romeo@example.net/x", "/v1/session/", "/v1/events/", "//v1/roster",
                 "/v1//roster", "/v1/./roster", "/v1/../v1/roster", "/v1/%2e%2e/v1/roster",
                 "/v1/%2e/roster", "/V1/roster", "/v1/Roster", "/v1/rosterx", "/v1/roster%20",
                 "/metrics", "/livez", "/readyz", "/v1/metrics", "/.git/config", "/v1/problems/nothing",
                 "/v1/roster/items/%2e%2e/x", "/%76%31/nothing"]


@pytest.mark.parametrize("path", UNKNOWN_PATHS)
def test_unknown_paths(person, path):
    response = person.get(path)
    assert (response.status, response.code) == (404, "not-found"), response


def test_dot_segments_as_jids_are_no_way_out(person):
    for segment in ("..", ".", "%2e%2e", "%2e", "..%2f..", "%2e%2e%2fsession"):
        assert person.get("/v1/roster/items/" + segment).status in (400, 404, 422), segment


METHODS = {"/v1/session": {"GET", "HEAD", "POST", "DELETE", "OPTIONS"},
           "/v1/session/renew": {"POST", "OPTIONS"},
           "/v1/roster/changes": {"GET", "HEAD", "OPTIONS"},
           "/v1/roster/items/romeo@example.net": {"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"},
           "/v1/roster/items/romeo@example.net/subscription": {"POST", "OPTIONS"},
           "/v1/roster/batch": {"POST", "OPTIONS"}, "/v1/subscriptions": {"GET", "HEAD", "OPTIONS"},
           "/v1/events": {"GET", "HEAD", "OPTIONS"}, "/v1/openapi.json": {"GET", "HEAD", "OPTIONS"},
           "/v1/roster": {"GET", "HEAD", "PUT", "OPTIONS"}}


@pytest.mark.parametrize("path", METHODS)
def test_methods(fake_site, person, path):
    """405 with Allow for every other one; OPTIONS tells the same set."""
    def methods(text):
        return {method.strip() for method in text.split(",")}

    options = person.call("OPTIONS", path)
    assert options.status == 204 and methods(options.header("Allow")) == METHODS[path]
    for method in ("GET", "PUT", "POST", "PATCH", "DELETE", "TRACE", "FOO", "get", "PROPFIND"):
        if method in METHODS[path]:
            continue
        response = person.call(method, path, b"{}" if method in ("PUT", "POST", "PATCH") else None,
                               content_type="application/json")
        assert (response.status, response.code) == (405, "method-not-allowed"), (method, response)
        assert methods(response.header("Allow")) == METHODS[path], method
    untouched(fake_site, person)


@pytest.mark.parametrize("path,query", [
    ("/v1/roster", "x=1"), ("/v1/roster", "limit=1&limit=2"), ("/v1/session", "all=1"),
    ("/v1/roster/items/romeo@example.net", "fields=jid"), ("/v1/roster/changes", "since=now&x="),
    ("/v1/roster", "Limit=1"), ("/v1/events", "last-event-id=1"), ("/v1/openapi.json", "v=1")])
def test_unknown_or_repeated_parameters(person, path, query):
    response = person.get(f"{path}?{query}")
    assert (response.status, response.code) == (400, "unknown-parameter"), response


@pytest.mark.parametrize("path,query", [
    ("/v1/roster", "limit=0"), ("/v1/roster", "limit=1001"), ("/v1/roster", "limit="),
    ("/v1/roster", "limit=1x"), ("/v1/roster", "limit=-1"), ("/v1/roster", "limit=+1"),
    ("/v1/roster/changes", ""),
    ("/v1/roster/changes", "since=x&limit=0"), ("/v1/roster/changes", "since=x&limit=1001"),
    ("/v1/roster/changes", "since=x&wait=-1"), ("/v1/roster/changes", "since=x&wait=abc"),
    ("/v1/roster/changes", "since=x&wait="), ("/v1/roster", "subscription=all")])
def test_missing_or_bad_values(person, path, query):
    response = person.get(path + ("?" + query if query else ""))
    if (response.status, response.code) == (501, "not-implemented"):
        pytest.skip("filters and paging are not built yet")
    assert (response.status, response.code) == (400, "invalid-query"), response


@pytest.mark.parametrize("query", ["%", "%zz", "a=%", "since=%00", "since=%ff", "%00=1"])
def test_queries_that_cannot_be_decoded(person, query):
    response = person.get("/v1/roster/changes?" + query)
    assert response.status == 400, response
    assert response.code in ("bad-request", "invalid-query", "unknown-parameter"), response


def test_sign_out_knows_all_equals_one_only(person):
    for query in ("all=0", "all=", "all=true"):
        response = person.delete("/v1/session?" + query)
        assert (response.status, response.code) == (400, "invalid-query"), response
    assert person.get("/v1/roster").status == 200


NOT_BUILT = [("POST", "/v1/roster/batch", {"operations": []}),
             ("PUT", "/v1/roster?mode=merge", {"items": []}), ("GET", "/v1/roster/groups", None),
             ("POST", "/v1/roster/groups/rename", {"from": "Friends", "to": "F"}),
             ("POST", "/v1/roster/groups/drop", {"name": "Friends"}), ("GET", "/v1/subscriptions", None),
             ("POST", "/v1/roster/items/romeo@example.net/subscription", {"action": "request"})]


@pytest.mark.parametrize("method,path,body", NOT_BUILT, ids=[p for _, p, _ in NOT_BUILT])
def test_what_is_not_built_says_so(person, method, path, body):
    """Until its issue is done: 501 `not-implemented`, never a wrong answer. With the call this case goes.
    (R62, and what tests/RULES.md calls open of other rules.)"""
    response = person.call(method, path, json_body=body)
    assert (response.status, response.code) == (501, "not-implemented"), response
