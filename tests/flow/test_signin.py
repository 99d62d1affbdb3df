"""POST, GET and DELETE /v1/session: who gets in, who does not, and what each is told (API 2)."""
import time

import pytest

from fakes import misbehaviour
from fakes.roster_model import Item
from fakes.sites import SEED
from fakes.support import PASSWORD, deadline, wait_until


def test_the_session_is_shown(site):
    jid, api = site.signed_in(SEED)
    shown = api.get("/v1/session")
    assert shown.status == 200
    body = shown.json()
    assert set(body) == {"jid", "state", "expires_at", "presence", "version", "roster_versioning",
                         "pre_approval"}
    assert (body["jid"], body["state"], body["presence"]) == (jid, "live", "none")
    assert body["version"] == api.session["version"]
    assert body["expires_at"] == api.session["expires_at"]
    assert body["roster_versioning"] is site.versioning


def test_wrong_password_and_unknown_user_cannot_be_told_apart(site):
    jid = site.account()
    answers = []
    for who in (jid, "nobody-of-that-name@example.com"):
        start = time.monotonic()
        response = site.gateway.api().try_sign_in(who, "not-the-password")
        elapsed = time.monotonic() - start
        # A little less: the gateway counts from the turn of the loop that read the head.
        assert elapsed >= 0.49, "answered before the next full 500 ms"
        body = response.json()
        body.pop("instance")
        answers.append((response.status, body))
    assert answers[0] == answers[1]
    assert answers[0][0] == 401 and answers[0][1]["code"] == "unauthorized"


def test_a_refusal_does_not_tell_that_the_account_is_in_use_here(site):
    """Nor by a header: the roster's version would."""
    jid = site.account()
    site.gateway.sign_in(jid)
    answers = [site.gateway.api().try_sign_in(who, "not-the-password")
               for who in (jid, "nobody-of-that-name@example.com")]
    assert [answer.status for answer in answers] == [401, 401]
    assert answers[0].headers.keys() == answers[1].headers.keys()
    assert answers[0].version is None


def test_a_domain_that_is_not_served(site):
    response = site.gateway.api().try_sign_in("juliet@example.org")
    assert (response.status, response.code) == (403, "domain-not-served")


def test_sign_out_ends_this_sign_in_only(site):
    jid, first = site.signed_in(SEED)
    second = site.gateway.sign_in(jid)
    assert first.token != second.token
    with site.gateway.stream(first) as stream:
        stream.wait_sync()
        response = first.delete("/v1/session")
        assert (response.status, response.body) == (204, b"")
        bye = stream.wait_for("bye")
        assert bye.json == {"reason": "signed-out", "reconnect": False}
        stream.wait_end()
        assert stream.ended_properly
    for method, path in (("GET", "/v1/roster"), ("GET", "/v1/session"), ("GET", "/v1/events"),
                         ("DELETE", "/v1/session")):
        dead = first.call(method, path)
        assert (dead.status, dead.code) == (401, "unauthorized"), path
        assert dead.header("Rostergate-Version") is None, "how often a roster changes is the owner's to see"
    assert second.get("/v1/roster").status == 200


def test_sign_out_of_all(site):
    jid, first = site.signed_in(SEED)
    second = site.gateway.sign_in(jid)
    assert first.delete("/v1/session?all=1").status == 204
    assert first.get("/v1/roster").status == 401
    assert second.get("/v1/roster").status == 401
    assert site.gateway.sign_in(jid).get("/v1/roster").status == 200


def test_sign_ins_of_one_user_share_one_xmpp_session(fake, gateway):
    """Each proves its password by SASL on a connection of its own, which is then closed."""
    fake.add("juliet", items=[Item("romeo@example.net")])
    first = gateway.sign_in("juliet@example.com")
    second = gateway.sign_in("juliet@example.com")
    assert len(fake.signed_in) == 2
    wait_until(lambda: len(fake.sessions) == 1, what="one XMPP session")
    assert len(fake.gets("juliet")) == 1
    first.put_item("nurse@example.com")
    assert "nurse@example.com" in second.items()
    wrong = gateway.api().try_sign_in("juliet@example.com", "not-the-password")
    assert wrong.status == 401, "a second sign-in was not proven to the XMPP server"
    assert len(fake.refusals) >= 1


def test_the_jid_is_prepared(fake, gateway):
    fake.add("juliet", items=[Item("romeo@example.net")])
    response = gateway.api().try_sign_in("JULIET@Example.COM")
    assert response.status == 201
    assert response.json()["jid"] == "juliet@example.com"


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-1"])
def test_each_mechanism_signs_in_and_refuses(fake, gateway, mechanism):
    fake.mechanisms = [mechanism]
    fake.add("juliet")
    assert gateway.api().try_sign_in("juliet@example.com", "wrong").status == 401
    assert gateway.api().try_sign_in("juliet@example.com").status == 201


@pytest.mark.parametrize("condition", ["account-disabled", "credentials-expired", "not-authorized"])
def test_all_refusals_of_credentials_are_401(fake, gateway, condition):
    fake.mechanisms = ["PLAIN"]
    fake.add("juliet")
    fake.hook("auth", misbehaviour.sasl_failure(condition))
    response = gateway.api().try_sign_in("juliet@example.com")
    assert (response.status, response.code) == (401, "unauthorized")


def test_a_temporary_failure_of_sasl_is_not_the_users_fault(fake, gateway):
    fake.mechanisms = ["PLAIN"]
    fake.add("juliet")
    fake.hook("auth", misbehaviour.sasl_failure("temporary-auth-failure"))
    assert gateway.api().try_sign_in("juliet@example.com").status in (502, 503, 504)


def test_server_away_at_start_is_502_and_works_when_it_is_back(fake, make_gateway):
    fake.add("juliet", items=[Item("romeo@example.net", "Romeo")])
    fake.refuse()
    gateway = make_gateway(fake)
    assert gateway.operations("/readyz").status == 200
    response = gateway.api().try_sign_in("juliet@example.com")
    assert (response.status, response.code) == (502, "xmpp-unreachable")
    assert b"example.com" in gateway.operations("/readyz").body
    fake.listen()
    assert gateway.sign_in("juliet@example.com").items().keys() == {"romeo@example.net"}


@pytest.mark.parametrize("moment,how", [
    ("connect", misbehaviour.close), ("open", misbehaviour.close), ("starttls", misbehaviour.reset),
    ("auth", misbehaviour.close), ("bind", misbehaviour.reset), ("roster_get", misbehaviour.close),
    ("roster_get", misbehaviour.half_roster), ("bind", misbehaviour.stream_error("system-shutdown")),
    ("open", misbehaviour.raw_stream_error("host-unknown")),
    ("bind", misbehaviour.bind_error("resource-constraint")),
    ("roster_get", misbehaviour.raw(misbehaviour.GARBAGE)),
])
def test_a_server_that_fails_midway_is_502(fake, make_gateway, moment, how):
    gateway = make_gateway(fake, xmpp={"connect_timeout": "2s", "iq_timeout": "2s"})
    fake.add("juliet", items=[Item("romeo@example.net")])
    fake.hook(moment, how)
    response = gateway.api().try_sign_in("juliet@example.com")
    assert response.status in (502, 503, 504) and response.code != "internal-server-error", response
    fake.clear_hooks()
    wait_until(lambda: gateway.api().try_sign_in("juliet@example.com").status == 201, 20, "all is well")


@pytest.mark.parametrize("moment", ["open", "starttls", "auth", "bind", "roster_get"])
def test_a_silent_server_is_504_within_the_time_out(fake, make_gateway, moment):
    gateway = make_gateway(fake, xmpp={"connect_timeout": "1s", "iq_timeout": "1s"})
    fake.add("juliet")
    fake.hook(moment, misbehaviour.silent)
    start = time.monotonic()
    response = gateway.api().try_sign_in("juliet@example.com")
    assert (response.status, response.code) == (504, "xmpp-timeout")
    assert time.monotonic() - start < deadline(8)
    fake.clear_hooks()
    wait_until(lambda: gateway.api().try_sign_in("juliet@example.com").status == 201, 20, "all is well")


def test_too_many_failures_of_one_jid(fake, make_gateway):
    """429 for this JID, whatever the password; a success clears the count and never counts."""
    gateway = make_gateway(fake, limits={"signin_failures": 3})
    for name in ("juliet", "romeo"):
        fake.add(name)
    api = gateway.api()
    for _ in range(2):
        assert api.try_sign_in("juliet@example.com", "wrong").status == 401
    assert api.try_sign_in("juliet@example.com").status == 201
    for _ in range(3):
        assert api.try_sign_in("juliet@example.com", "wrong").status == 401
    refused = api.try_sign_in("juliet@example.com")
    assert (refused.status, refused.code) == (429, "too-many-requests")
    assert int(refused.header("Retry-After")) > 0
    assert api.try_sign_in("romeo@example.com").status == 201


def test_a_full_pool(fake, make_gateway):
    gateway = make_gateway(fake, xmpp={"max_sessions": 2})
    for name in ("juliet", "romeo", "nurse"):
        fake.add(name)
    juliet = gateway.sign_in("juliet@example.com")
    gateway.sign_in("romeo@example.com")
    response = gateway.api().try_sign_in("nurse@example.com")
    assert (response.status, response.code) == (503, "pool-full")
    # Nobody is evicted for a newcomer.
    assert juliet.get("/v1/session").json()["state"] == "live"


def test_nothing_secret_is_logged(fake, make_gateway):
    gateway = make_gateway(fake, log={"level": "debug"})
    fake.mechanisms = ["PLAIN"]
    fake.add("juliet", items=[Item("secret-friend@example.com", "Secret Name", ["Secret Group"])])
    api = gateway.sign_in("juliet@example.com")
    gateway.api().try_sign_in("juliet@example.com", "Wrong-password-77")
    api.put_item("other-friend@example.com", "Another Name")
    api.delete("/v1/session")
    gateway.stop()
    import base64
    log = gateway.log()
    for secret in (PASSWORD, "Wrong-password-77", api.token, "Secret Name", "Secret Group",
                   "secret-friend", "other-friend", "Another Name",
                   base64.b64encode(f"\0juliet\0{PASSWORD}".encode()).decode()):
        assert secret not in log, secret
