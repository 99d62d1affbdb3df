"""What stands around the calls: CORS, request ids, problems, documents, the page (API 6, 7)."""
import json
import re

import pytest

from fakes.sites import SEED

EXPOSED = {"etag", "location", "retry-after", "rostergate-version", "cache-status", "age", "x-request-id"}


@pytest.fixture(scope="module")
def juliet(fake_site):
    return fake_site.signed_in(SEED)[1]


def words(text):
    return {word.strip().lower() for word in (text or "").split(",") if word.strip()}


@pytest.mark.parametrize("given", ["a", "A-b_c.1", "x" * 64])
def test_a_good_request_id_is_kept(juliet, given):
    assert juliet.get("/v1/roster", headers={"X-Request-Id": given}).header("X-Request-Id") == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a/b", "\u00e9".encode().decode("latin-1"), "a\"b"])
def test_a_bad_request_id_is_replaced(juliet, given):
    answered = juliet.get("/v1/roster", headers={"X-Request-Id": given}).header("X-Request-Id")
    assert answered != given and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", answered)


def test_made_request_ids_differ(juliet):
    assert len({juliet.get("/v1/roster").header("X-Request-Id") for _ in range(50)}) == 50


@pytest.fixture(scope="module")
def cross(fake_site, module_gateway):
    """A gateway that lists one origin: (gateway, signed-in client)."""
    gateway = module_gateway(fake_site.server, server={"origins": ["https://app.example"]})
    return gateway, gateway.sign_in(fake_site.account(SEED))


def test_preflight_from_a_listed_origin(cross):
    gateway, _ = cross
    response = gateway.api().call("OPTIONS", "/v1/roster/items/a@example.com", headers={
        "Origin": "https://app.example", "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization, if-match"})
    assert (response.status, response.body) == (204, b"")
    assert response.header("Access-Control-Allow-Origin") == "https://app.example"
    assert response.header("Access-Control-Allow-Credentials") == "true"
    assert words(response.header("Access-Control-Allow-Methods")) == {
        "get", "head", "post", "put", "patch", "delete"}
    assert words(response.header("Access-Control-Allow-Headers")) == {
        "authorization", "content-type", "if-match", "if-none-match", "last-event-id", "cache-control",
        "x-request-id", "traceparent"}
    assert response.header("Access-Control-Max-Age") == "600"
    assert "origin" in words(response.header("Vary"))


@pytest.mark.parametrize("origin", ["https://evil.example", "https://app.example.evil", "null",
                                    "http://app.example", "https://APP.example.", "https://app.example:444"])
def test_preflight_from_elsewhere_gets_nothing(cross, origin):
    response = cross[0].api().call("OPTIONS", "/v1/roster", headers={
        "Origin": origin, "Access-Control-Request-Method": "GET"})
    assert response.status == 204
    assert response.header("Access-Control-Allow-Origin") is None
    assert "origin" in words(response.header("Vary"))


@pytest.mark.parametrize("path,status", [("/v1/roster", 200), ("/v1/nothing", 404),
                                         ("/v1/roster/changes?since=x", 410), ("/v1/session", 200)])
def test_answers_to_a_listed_origin_are_readable(cross, path, status):
    _, api = cross
    response = api.get(path, headers={"Origin": "https://app.example"})
    assert response.status == status
    assert response.header("Access-Control-Allow-Origin") == "https://app.example"
    assert response.header("Access-Control-Allow-Credentials") == "true"
    assert words(response.header("Access-Control-Expose-Headers")) == EXPOSED
    assert "origin" in words(response.header("Vary"))
    other = api.get(path, headers={"Origin": "https://evil.example"})
    assert other.header("Access-Control-Allow-Origin") is None


def test_without_a_list_no_origin_is_allowed(juliet):
    response = juliet.get("/v1/roster", headers={"Origin": "https://app.example"})
    assert response.status == 200 and response.header("Access-Control-Allow-Origin") is None


def test_streams_are_readable_for_a_listed_origin(cross):
    gateway, api = cross
    with gateway.stream(api, headers={"Origin": "https://app.example"}) as stream:
        stream.wait_sync()
        assert stream.headers["access-control-allow-origin"] == "https://app.example"


CODES = ["unauthorized", "invalid-json", "invalid-item", "invalid-jid", "not-found", "method-not-allowed",
         "version-expired", "version-mismatch", "outcome-unknown", "not-applied", "xmpp-unreachable",
         "too-many-requests", "draining", "self-contact", "csrf", "domain-not-served", "pool-full",
         "item-not-found", "roster-not-found", "too-large", "unsupported-media-type", "forbidden",
         "not-acceptable", "credentials-rejected", "sign-in-again", "not-implemented", "bad-request",
         "unknown-parameter", "invalid-query", "xmpp-timeout", "version-changed"]


@pytest.mark.parametrize("code", CODES)
def test_every_problem_type_is_served(fake_site, code):
    response = fake_site.gateway.api().get("/v1/problems/" + code)
    assert response.status == 200, response
    assert len(response.body) > 40


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "BREW"])
def test_an_unknown_path_is_404_for_every_method(fake_site, method):
    for path in ("/nothing", "/v1", "/v1/nothing", "/", "/index.html", "/livez", "/metrics"):
        response = fake_site.gateway.api().call(method, path)
        assert response.status == 404, path
        assert method == "HEAD" or response.code == "not-found", path
        assert response.header("Allow") is None, path
    script = fake_site.gateway.api().call("BREW", "/rostergate.js")
    assert (script.status, script.header("Allow")) == (405, "GET, HEAD, OPTIONS")


def test_no_token(fake_site):
    for path in ("/v1/roster", "/v1/session", "/v1/roster/items/a@example.com",
                 "/v1/roster/changes?since=x", "/v1/subscriptions"):
        response = fake_site.gateway.api().get(path)
        assert (response.status, response.code) == (401, "unauthorized"), path


def test_openapi_names_every_route_and_every_code(fake_site):
    response = fake_site.gateway.api().get("/v1/openapi.json")
    assert response.status == 200
    assert response.header("Content-Type").startswith("application/")
    document = json.loads(response.body)
    assert document["openapi"].startswith("3.1")
    for path in ("/v1/session", "/v1/session/renew", "/v1/roster", "/v1/roster/changes",
                 "/v1/roster/items/{jid}", "/v1/roster/batch", "/v1/roster/groups", "/v1/subscriptions",
                 "/v1/events"):
        assert path in document["paths"], path


def test_the_script_is_served_and_the_page_only_for_the_demo(fake_site, make_gateway):
    api = fake_site.gateway.api()
    script = api.get("/rostergate.js")
    assert script.status == 200 and "javascript" in script.header("Content-Type")
    assert api.get("/").status == 404
    demo = make_gateway(fake_site.server, server={"demo": True}).api()
    page = demo.get("/")
    assert page.status == 200 and page.header("Content-Type").startswith("text/html")
    policy = page.header("Content-Security-Policy")
    assert "default-src 'none'" in policy or "default-src 'self'" in policy
    assert "unsafe" not in policy


def test_json_answers_cannot_be_taken_for_something_else(juliet):
    for path in ("/v1/roster", "/v1/session", "/v1/nothing"):
        assert juliet.get(path).header("X-Content-Type-Options") == "nosniff", path


def test_private_answers_are_not_stored_by_others(juliet):
    assert juliet.get("/v1/roster").header("Cache-Control") == "private, no-cache"
    for path in ("/v1/session", "/v1/roster/items/romeo@example.net"):
        assert re.search(r"private|no-store", juliet.get(path).header("Cache-Control") or ""), path
