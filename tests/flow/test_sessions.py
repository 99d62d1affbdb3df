"""What life does to a session: cuts, a server that is away, idling, other passwords, renewing (API 2)."""
import time

import pytest

from fakes import misbehaviour
from fakes.roster_model import Item, removal
from fakes.support import PASSWORD, deadline, wait_until


@pytest.fixture
def juliet_account(fake):
    fake.add("juliet", items=[Item("romeo@example.net", "Romeo", ["Friends"], "both")])
    return "juliet@example.com"


def state(api):
    return api.get("/v1/session").json()["state"]


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_after_a_cut_the_session_is_back_and_the_difference_is_sent(fake, gateway, juliet_account, reset):
    """Back-off begins within a second; the diff goes out as ordinary changes, removals too."""
    api = gateway.sign_in(juliet_account)
    with gateway.stream(api) as stream:
        stream.wait_sync()
        fake.refuse()
        fake.cut_all(reset)
        account = fake.accounts["juliet"]
        for change in (lambda: account.put(Item("new@example.com", "New")),
                       lambda: account.put(Item("romeo@example.net", "R", [], "to"))):
            fake.reactor.call(change)
        fake.listen()
        stream.wait_item("new@example.com", timeout=20)
        stream.wait_item("romeo@example.net", "R", timeout=20)
        states = [e.json["state"] for e in stream.events.all() if e.name == "session"]
        assert states[0] == "resuming"
        stream.wait_for(lambda e: e.name == "session" and e.json["state"] == "live", 20)
        assert stream.roster() == api.items()
        assert "roster" not in stream.names()[1:], "continuity was kept: no second snapshot"


def test_the_first_retry_comes_within_a_second(fake, gateway, juliet_account):
    api = gateway.sign_in(juliet_account)
    start = time.monotonic()
    fake.cut_all()
    wait_until(lambda: len(fake.connects) >= 2, 10, "the retry")
    assert time.monotonic() - start < deadline(1.5)
    wait_until(lambda: state(api) == "live", 10, "live again")


def test_retries_back_off(fake, gateway, juliet_account):
    """Doubling with jitter: in about 8 s not more than a handful of connects."""
    gateway.sign_in(juliet_account)
    fake.hook("connect", misbehaviour.close)
    start = time.monotonic()
    fake.cut_all()
    wait_until(lambda: len(fake.connects) >= 5, 40, "four retries")
    assert time.monotonic() - start > 3, "four retries in less than 3 s"
    fake.clear_hooks()
    wait_until(lambda: fake.sessions_of("juliet"), 60, "the session comes back")


def test_refused_credentials_are_not_retried(fake, gateway, juliet_account):
    """A reconnect whose password is refused: the tokens are dead, streams say `credentials`."""
    api = gateway.sign_in(juliet_account)
    with gateway.stream(api) as stream:
        stream.wait_sync()
        fake.accounts["juliet"].password = "changed-elsewhere"
        fake.cut_all()
        bye = stream.wait_for("bye", 20)
        assert bye.json == {"reason": "credentials", "reconnect": False}
        stream.wait_end()
    response = api.get("/v1/roster")
    assert (response.status, response.code) == (401, "credentials-rejected")
    tries = len(fake.refusals)
    again = gateway.api().try_sign_in(juliet_account, "changed-elsewhere")
    assert again.status == 201
    assert len(fake.refusals) == tries, "refused credentials were tried again"
    assert api.get("/v1/roster").status == 401


def test_a_sign_in_with_another_password_ends_the_old_tokens(fake, gateway, juliet_account):
    old = gateway.sign_in(juliet_account)
    fake.accounts["juliet"].password = "Parting-is-such-1"
    with gateway.stream(old) as stream:
        stream.wait_sync()
        new = gateway.sign_in(juliet_account, "Parting-is-such-1")
        assert stream.wait_for("bye").json["reason"] == "credentials"
    response = old.get("/v1/roster")
    assert (response.status, response.code) == (401, "credentials-rejected")
    assert new.get("/v1/roster").status == 200
    refused = gateway.api().try_sign_in(juliet_account, PASSWORD)
    assert refused.status == 401


def test_an_idle_session_closes_its_stream_and_opens_it_again(fake, make_gateway, juliet_account):
    gateway = make_gateway(fake, xmpp={"idle_timeout": "1s"})
    api = gateway.sign_in(juliet_account)
    wait_until(lambda: not fake.sessions, 20, "the idle session to be closed")
    fake.accounts["juliet"].put(Item("meanwhile@example.com"))
    response = api.get("/v1/roster")
    assert response.status == 200
    assert "meanwhile@example.com" in [i["jid"] for i in response.json()["items"]]
    assert "stale" not in response.header("Cache-Status")
    assert len(fake.signed_in) >= 2


def test_a_session_with_a_stream_is_not_idle(fake, make_gateway, juliet_account):
    gateway = make_gateway(fake, xmpp={"idle_timeout": "1s"}, events={"heartbeat": "1s"})
    api = gateway.sign_in(juliet_account)
    with gateway.stream(api) as stream:
        stream.wait_sync()
        before = len(fake.signed_in)
        wait_until(lambda: len(stream.comments) >= 4, 20, "four heartbeats", 0.1)
        assert len(fake.sessions_of("juliet")) == 1 and len(fake.signed_in) == before


def test_idle_closing_is_orderly(fake, make_gateway, juliet_account):
    closed = []
    fake.hook("close", lambda session, _: closed.append(session) and False)
    gateway = make_gateway(fake, xmpp={"idle_timeout": "1s"})
    gateway.sign_in(juliet_account)
    wait_until(lambda: closed, 20, "</stream:stream>")


def test_renew_gives_a_new_token_of_the_same_sign_in(fake, gateway, juliet_account):
    api = gateway.sign_in(juliet_account)
    response = api.post("/v1/session/renew", {})
    assert response.status == 200
    assert {"token", "token_type", "expires_at", "jid"} <= set(response.json())
    renewed = api.with_token(response.json()["token"])
    assert renewed.token != api.token
    assert renewed.get("/v1/roster").status == 200 and api.get("/v1/roster").status == 200
    assert len(fake.signed_in) == 1, "renewing needs no password"
    assert renewed.delete("/v1/session").status == 204
    assert api.get("/v1/roster").status == 401, "tokens of one sign-in die together"


def test_renew_without_a_body_works(fake, gateway, juliet_account):
    api = gateway.sign_in(juliet_account)
    assert api.call("POST", "/v1/session/renew").status == 200


def test_beyond_max_age_sign_in_again(fake, make_gateway, juliet_account):
    gateway = make_gateway(fake, session={"lifetime": "4s", "max_age": "5s"})
    held = [gateway.sign_in(juliet_account)]

    def renew():
        """Always with the newest token; true when it is refused."""
        response = held[0].post("/v1/session/renew", {})
        if response.status == 200:
            held[0] = held[0].with_token(response.json()["token"])
            return None
        return response
    response = wait_until(renew, 20, "max_age", 0.3)
    assert (response.status, response.code) == (401, "sign-in-again")


def test_presence_belongs_to_the_sign_in(fake, gateway, juliet_account):
    """none: nothing is sent; listen: initial presence with priority -1, while any sign-in wants it."""
    quiet = gateway.sign_in(juliet_account)
    assert fake.presences("juliet") == []
    listener = gateway.sign_in(juliet_account, presence="listen")
    assert listener.get("/v1/session").json()["presence"] == "listen"
    assert quiet.get("/v1/session").json()["presence"] == "none"
    sent = fake.stanzas.wait_for(lambda r: r.kind == "presence" and r.user == "juliet")
    assert sent.type is None and sent.element.get("to") is None
    assert sent.element.findtext("{jabber:client}priority") == "-1"
    # The roster was asked for before the presence (R7).
    order = [r.kind for r in fake.stanzas.all() if r.user == "juliet" and (r.is_roster_get
                                                                           or r.kind == "presence")]
    assert order == ["iq", "presence"]
    listener.delete("/v1/session")
    gone = fake.stanzas.wait_for(lambda r: r.kind == "presence" and r.type == "unavailable")
    assert gone.element.get("to") is None
    assert quiet.get("/v1/roster").status == 200


def test_a_silent_connection_is_found_by_the_next_request(fake, proxy, make_gateway, juliet_account):
    """An IQ without answer replaces the stream at once."""
    gateway = make_gateway(proxy, xmpp={"iq_timeout": "1s"})
    api = gateway.sign_in(juliet_account)
    proxy.stall()
    response = api.put_item("nurse@example.com")
    assert response.status in (503, 504), response
    proxy.cut()
    proxy.go_on()
    wait_until(lambda: api.put_item("nurse@example.com").status in (200, 201), 40, "a new stream", 0.2)


def test_truncated_and_slow_links(fake, proxy, make_gateway, juliet_account):
    for item in misbehaviour.many_items(300):
        fake.accounts["juliet"].put(item)
    gateway = make_gateway(proxy)
    api = gateway.sign_in(juliet_account)
    proxy.truncate_after(5000)
    response = api.get("/v1/roster", headers={"Cache-Control": "no-cache"})
    assert response.status in (200, 503, 504)
    wait_until(lambda: state(api) == "live", 30, "live again", 0.1)
    assert len(api.items()) == 301
    proxy.slow(20000)
    assert api.put_item("nurse@example.com").status == 201
    proxy.go_on()


def test_state_file_keeps_sign_outs_over_a_restart(fake, make_gateway, juliet_account, tmp_path):
    keys, held = str(tmp_path / "keys"), str(tmp_path / "state")
    gateway = make_gateway(fake, session={"keys_file": keys, "state_file": held})
    stays, goes = gateway.sign_in(juliet_account), gateway.sign_in(juliet_account)
    assert goes.delete("/v1/session").status == 204
    import os
    assert os.stat(keys).st_mode & 0o777 == 0o600
    gateway.restart()
    assert goes.with_token(goes.token).get("/v1/roster").status == 401
    response = gateway.api(stays.token).get("/v1/roster")
    assert response.status == 200 and len(response.json()["items"]) == 1
    with open(held, "rb") as file:
        assert goes.token.encode() not in file.read()


def test_without_keys_file_tokens_end_with_the_process(fake, gateway, juliet_account):
    api = gateway.sign_in(juliet_account)
    gateway.restart()
    response = gateway.api(api.token).get("/v1/roster")
    assert (response.status, response.code) == (401, "unauthorized")


def test_versions_of_the_process_before_are_unknown_not_wrong(fake, make_gateway, juliet_account, tmp_path):
    """The mark is new: an old id gives a snapshot, an old `since` 410, an old ETag 200."""
    gateway = make_gateway(fake, session={"keys_file": str(tmp_path / "keys"),
                                          "state_file": str(tmp_path / "state")})
    api = gateway.sign_in(juliet_account)
    old = api.roster()["version"]
    gateway.restart()
    api = gateway.api(api.token)
    assert api.get(f"/v1/roster/changes?since={old}").status == 410
    assert api.get("/v1/roster", headers={"If-None-Match": f'"{old}"'}).status == 200
    with gateway.stream(api, last_event_id=old) as stream:
        stream.wait_sync()
        assert stream.names()[0] == "roster"


def test_removal_while_away_is_a_removal(fake, gateway, juliet_account):
    api = gateway.sign_in(juliet_account)
    with gateway.stream(api) as stream:
        stream.wait_sync()
        fake.pushes = False
        fake.change("juliet", removal("romeo@example.net"))
        fake.cut_all()
        stream.wait_removed("romeo@example.net", timeout=20)
        fake.pushes = True
