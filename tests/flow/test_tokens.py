"""Tokens: forged, broken, of others, in the wrong place; the cookie and cross-site requests (API 2)."""
import base64
import os
import re

import pytest

from fakes.http_client import basic
from fakes.roster_model import Item
from fakes.sites import SEED


@pytest.fixture(scope="module")
def juliet(fake_site):
    return fake_site.signed_in(SEED)[1]


def test_the_length_of_a_token_says_nothing_about_the_password(fake, gateway):
    lengths = set()
    for n in (1, 8, 40):
        fake.add(f"user{n}", password="p" * n)
        lengths.add(len(gateway.sign_in(f"user{n}@example.com", "p" * n).token))
    assert len(lengths) == 1, lengths


def test_every_changed_character_makes_it_invalid(juliet):
    token = juliet.token
    for position in range(0, len(token), max(1, len(token) // 60)):
        old = token[position]
        changed = token[:position] + ("A" if old != "A" else "B") + token[position + 1:]
        response = juliet.get("/v1/roster", token=changed)
        # The last character of a base64 group may carry unused bits; a canonical reader refuses those too.
        assert (response.status, response.code) == (401, "unauthorized"), position
    assert juliet.get("/v1/roster").status == 200


@pytest.mark.parametrize("value", [
    "", "Bearer", "Bearer ", "Bearer  ", "Bearer x", "Bearer rg1", "Bearer rg1.", "Bearer rg1..",
    "Bearer rg1.a.b", "bearer", "Basic eDp5", "Digest x", "Bearer " + "A" * 3000, "Bearer \xe9",
    "Bearer rg1." + "." * 500, "Bearer null", "Bearer undefined"])
def test_what_is_no_token(juliet, value):
    response = juliet.call("GET", "/v1/roster", token=None,
                           headers={"Authorization": value.encode("latin-1").decode("latin-1")})
    assert (response.status, response.code) == (401, "unauthorized"), response


def test_pieces_of_good_tokens(juliet):
    token = juliet.token
    for broken in (token[:-1], token[1:], token + "A", token + "=", token + ".", token.lower(),
                   token.upper(), token[:len(token) // 2], token * 2, token.replace(".", "")):
        if broken != token:
            assert juliet.get("/v1/roster", token=broken).status == 401, broken


def test_random_tokens_of_the_right_form(juliet):
    parts = juliet.token.split(".")
    for _ in range(50):
        sealed = base64.urlsafe_b64encode(os.urandom(len(parts[-1]) * 3 // 4)).decode().rstrip("=")
        assert juliet.get("/v1/roster", token=".".join(parts[:-1] + [sealed])).status == 401


def test_another_scheme_and_case_of_bearer(juliet):
    assert juliet.get("/v1/roster", token=None,
                      headers={"Authorization": basic("juliet", "x")}).status == 401
    assert juliet.get("/v1/roster", token=None,
                      headers={"Authorization": "bearer " + juliet.token}).status == 200


def test_no_token_is_taken_from_a_url(juliet):
    for path in ("/v1/roster?token=", "/v1/roster?access_token=", "/v1/events?token="):
        response = juliet.get(path + juliet.token, token=None)
        assert response.status in (400, 401), response


def test_a_token_of_another_gateway_is_worth_nothing(fake, make_gateway, juliet):
    fake.add("juliet")
    other = make_gateway(fake)
    assert other.api(juliet.token).get("/v1/roster").status == 401


def cookie_of(response):
    text = response.header("Set-Cookie")
    assert text, response.headers
    return text


def test_the_cookie_has_every_attribute(fake_site):
    jid = fake_site.account(SEED)
    response = fake_site.gateway.api().try_sign_in(jid, cookie=True)
    text = cookie_of(response)
    name, _, rest = text.partition("=")
    assert name == "__Host-rg"
    attributes = {part.strip().lower() for part in rest.split(";")[1:]}
    assert {"httponly", "secure", "samesite=strict", "path=/"} <= attributes
    assert not any(a.startswith("domain") for a in attributes)
    plain = fake_site.gateway.api().try_sign_in(jid)
    assert plain.header("Set-Cookie") is None


def test_the_insecure_cookie(fake, make_gateway):
    gateway = make_gateway(fake, server={"insecure_cookie": True})
    fake.add("juliet")
    text = cookie_of(gateway.api().try_sign_in("juliet@example.com", cookie=True))
    assert text.startswith("rg=") and "secure" not in text.lower().split("; ")


@pytest.fixture(scope="module")
def jar(fake_site):
    """(client without token, headers with the cookie)."""
    jid = fake_site.account(SEED)
    response = fake_site.gateway.api().try_sign_in(jid, cookie=True)
    return fake_site.gateway.api(), {"Cookie": cookie_of(response).split(";")[0]}


def test_the_cookie_signs_requests(jar):
    api, cookie = jar
    assert api.get("/v1/roster", headers=cookie).status == 200
    mixed = {"Cookie": "a=b; " + cookie["Cookie"] + "; c=d"}
    assert api.get("/v1/roster", headers=mixed).status == 200


def test_an_invalid_header_is_401_even_beside_a_good_cookie(jar):
    api, cookie = jar
    assert api.get("/v1/roster", headers=cookie, token="broken").status == 401


def test_two_cookies_of_our_name_are_401(jar):
    api, cookie = jar
    for twice in (cookie["Cookie"] + "; " + cookie["Cookie"], cookie["Cookie"] + "; __Host-rg=x"):
        assert api.get("/v1/roster", headers={"Cookie": twice}).status == 401


CROSS_SITE = [({"Sec-Fetch-Site": "same-origin"}, 204), ({"Sec-Fetch-Site": "cross-site"}, 403),
              ({"Sec-Fetch-Site": "same-site"}, 403), ({"Sec-Fetch-Site": "none"}, 403),
              ({"Origin": "https://HOST"}, 204), ({"Origin": "https://evil.example"}, 403),
              ({"Origin": "null"}, 403), ({}, 403), ({"Origin": "http://HOST"}, 403),
              ({"Origin": "https://HOST.evil.example"}, 403),
              ({"Sec-Fetch-Site": "cross-site", "Origin": "https://HOST"}, 403)]


@pytest.mark.parametrize("headers,status", CROSS_SITE, ids=range(len(CROSS_SITE)))
def test_cross_site_writes_with_the_cookie(fake_site, headers, status):
    jid = fake_site.account([{"jid": "a@example.com"}])
    response = fake_site.gateway.api().try_sign_in(jid, cookie=True)
    api, cookie = fake_site.gateway.api(), {"Cookie": cookie_of(response).split(";")[0]}
    host = f"127.0.0.1:{fake_site.gateway.port}"
    sent = {**cookie, **{key: value.replace("HOST", host) for key, value in headers.items()}}
    answer = api.delete("/v1/roster/items/a@example.com", headers=sent)
    assert answer.status == status, answer
    if status == 403:
        assert answer.code == "csrf"
        assert fake_site.server.sets(jid.partition("@")[0]) == []
    # Reading is safe from anywhere, and the header needs no such proof.
    assert api.get("/v1/roster", headers=sent).status == 200
    assert api.call("PUT", "/v1/roster/items/b@example.com", json_body={}, headers=headers,
                    token=response.json()["token"]).status == 201


def test_a_listed_origin_may_write_with_the_cookie(fake, make_gateway):
    gateway = make_gateway(fake, server={"origins": ["https://app.example"]})
    fake.add("juliet", items=[Item("a@example.com")])
    response = gateway.api().try_sign_in("juliet@example.com", cookie=True)
    sent = {"Cookie": cookie_of(response).split(";")[0], "Origin": "https://app.example"}
    assert gateway.api().delete("/v1/roster/items/a@example.com", headers=sent).status == 204


def test_signing_out_takes_the_cookie_away(fake_site):
    jid = fake_site.account()
    response = fake_site.gateway.api().try_sign_in(jid, cookie=True)
    cookie = cookie_of(response).split(";")[0]
    answer = fake_site.gateway.api().delete("/v1/session", headers={
        "Cookie": cookie, "Sec-Fetch-Site": "same-origin"})
    assert answer.status == 204
    assert re.match(r"__Host-rg=;", cookie_of(answer)) or "max-age=0" in cookie_of(answer).lower()
    assert fake_site.gateway.api().get("/v1/roster", headers={"Cookie": cookie}).status == 401
