"""When is a write done? Result and push in any order, no push, rewritten, refused, unanswered (DESIGN 5;
R31 to R34)."""
import threading
import time

import pytest

from fakes import misbehaviour
from fakes.roster_model import Item
from fakes.sites import item
from fakes.support import deadline, wait_until


@pytest.fixture
def juliet(fake, gateway):
    fake.add("juliet", items=[Item("romeo@example.net", "Romeo", ["Friends"], "both")])
    return gateway.sign_in("juliet@example.com")


def test_ids_of_stanzas_cannot_be_guessed_and_never_repeat(fake, juliet):
    """R31."""
    for n in range(10):
        juliet.put_item(f"f{n}@example.com")
    ids = [r.id for r in fake.stanzas.all() if r.kind == "iq" and r.type in ("get", "set")
           and r.query is not None]
    assert len(set(ids)) == len(ids) >= 11
    assert all(len(i) >= 16 for i in ids), ids
    assert len({i[:8] for i in ids}) == len(ids), "ids share a beginning"


def test_a_write_is_answered_only_when_it_is_visible(fake, juliet):
    """The push comes late: the answer is the state after it, and every read shows it."""
    def late_push(session, element):
        stored = fake.accounts["juliet"].set_by_client("nurse@example.com", "Nurse", [])
        session.result(element)
        session.later(0.06, lambda: fake.push_now("juliet", stored))
        return True
    fake.hook("roster_set", late_push, times=1)
    response = juliet.put_item("nurse@example.com", "Nurse")
    assert response.status == 201, response
    read = juliet.get("/v1/roster")
    assert read.version == response.version
    assert [i["name"] for i in read.json()["items"] if i["jid"] == "nurse@example.com"] == ["Nurse"]


def test_a_result_without_a_push_is_no_proof(fake, juliet):
    """R32: the roster read behind it does not show it: 502 `not-applied`."""
    fake.hook("roster_set", misbehaviour.result_without_push)
    before = juliet.roster()
    response = juliet.put_item("nurse@example.com", "Nurse")
    assert (response.status, response.code) == (502, "not-applied")
    assert len(fake.gets("juliet")) >= 2
    assert juliet.roster() == before


def test_a_remove_that_is_not_applied(fake, juliet):
    fake.hook("roster_set", misbehaviour.result_without_push)
    response = juliet.delete_item("romeo@example.net")
    assert (response.status, response.code) == (502, "not-applied")
    assert "romeo@example.net" in juliet.items()


def test_without_any_push_the_roster_get_is_the_barrier(fake, juliet):
    """A server that stores but does not push to us."""
    fake.pushes = False
    response = juliet.put_item("nurse@example.com", "Nurse", ["A"])
    assert response.status == 201
    assert response.json()["item"] == item("nurse@example.com", "Nurse", ["A"])
    assert juliet.delete_item("romeo@example.net").status == 204
    assert list(juliet.items()) == ["nurse@example.com"]


def test_the_item_stored_is_the_one_of_the_server(fake, gateway, juliet):
    """R34: servers rewrite names and groups; the answer shows what stands there."""
    def rewrite(session, element):
        session.result(element)
        fake.push_now("juliet", fake.accounts["juliet"].set_by_client(
            "nurse@example.com", "Nurse (by the server)", ["Shared"]))
        return True
    fake.hook("roster_set", rewrite)
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        response = juliet.put_item("nurse@example.com", "Nurse", ["A"])
        assert response.status == 201, response
        wanted = item("nurse@example.com", "Nurse (by the server)", ["Shared"])
        assert response.json()["item"] == wanted == juliet.items()["nurse@example.com"]
        assert stream.wait_item("nurse@example.com").json["item"] == wanted


def test_a_push_of_somebody_elses_change_does_not_end_our_write(fake, juliet):
    """Only a push for this JID with the name and groups asked for does."""
    def other_first(session, element):
        fake.push_now("juliet", fake.accounts["juliet"].put(Item("other@example.com", "Other")))
        fake.push_now("juliet", fake.accounts["juliet"].put(Item("nurse@example.com", "Before")))
        session.answer_roster_set(element)
        return True
    fake.hook("roster_set", other_first, times=1)
    response = juliet.put_item("nurse@example.com", "Nurse")
    assert response.json()["item"]["name"] == "Nurse"
    assert juliet.roster()["version"] == response.version


def test_no_answer_is_outcome_unknown_and_the_stream_is_replaced(fake, make_gateway):
    """504: it may have happened. The session is torn down and the roster read again."""
    gateway = make_gateway(fake, xmpp={"iq_timeout": "3s"})
    fake.add("juliet", items=[Item("romeo@example.net")])
    api = gateway.sign_in("juliet@example.com")

    def stored_but_silent(session, element):
        fake.accounts["juliet"].set_by_client("nurse@example.com", "Nurse", [])
        return True
    fake.hook("roster_set", stored_but_silent, times=1)
    with gateway.stream(api) as stream:
        stream.wait_sync()
        start = time.monotonic()
        response = api.put_item("nurse@example.com", "Nurse")
        assert (response.status, response.code) == (504, "outcome-unknown")
        assert time.monotonic() - start < deadline(9)
        assert stream.wait_item("nurse@example.com", timeout=20).json["item"]["name"] == "Nurse"
    assert len(fake.signed_in) == 2
    assert api.put_item("nurse@example.com", "Again").status == 200


def test_a_stream_cut_in_mid_write_is_outcome_unknown(fake, gateway, juliet):
    fake.hook("roster_set", misbehaviour.reset, times=1)
    response = juliet.put_item("nurse@example.com", "Nurse")
    assert (response.status, response.code) == (504, "outcome-unknown")
    wait_until(lambda: juliet.get("/v1/session").json()["state"] == "live", 20, "the reconnect")
    assert "nurse@example.com" not in juliet.items()


CONDITIONS = [
    ("bad-request", "modify", 400), ("jid-malformed", "modify", 400), ("not-acceptable", "modify", 422),
    ("forbidden", "auth", 403), ("not-allowed", "cancel", 403), ("registration-required", "auth", 403),
    ("subscription-required", "auth", 403), ("conflict", "cancel", 409),
    ("unexpected-request", "wait", 409), ("feature-not-implemented", "cancel", 501),
    ("policy-violation", "modify", 403), ("policy-violation", "wait", 429),
    ("resource-constraint", "wait", 503), ("service-unavailable", "cancel", 503),
    ("recipient-unavailable", "wait", 503), ("remote-server-not-found", "cancel", 502),
    ("internal-server-error", "cancel", 502), ("undefined-condition", "cancel", 502),
    ("gone", "cancel", 502), ("redirect", "modify", 502), ("remote-server-timeout", "wait", 504),
    ("item-not-found", "cancel", 404), ("not-authorized", "auth", 502)]


@pytest.mark.parametrize("condition,kind,status", CONDITIONS, ids=[f"{c}-{k}" for c, k, _ in CONDITIONS])
def test_the_table_of_conditions(fake_site, condition, kind, status):
    """API 6."""
    jid, api = fake_site.signed_in([{"jid": "romeo@example.net"}])
    fake_site.server.hook("roster_set", misbehaviour.error(condition, kind, "Because"), times=1)
    response = api.put_item("nurse@example.com", "Nurse")
    assert response.status == status, response
    assert response.code == condition or (condition == "not-authorized" and response.status == 502)
    assert response.json()["xmpp"] == {"condition": condition, "type": kind, "text": "Because"}
    assert list(api.items()) == ["romeo@example.net"]


def test_an_error_without_or_with_an_unknown_condition(fake, juliet):
    for body in ("", "<error/>", "<error type='cancel'><made-up xmlns='urn:x'/></error>",
                 "<error type='strange'><forbidden/></error>"):
        fake.hook("roster_set", misbehaviour.raw("<iq type='error' id='{id}'>" + body + "</iq>"), times=1)
        response = juliet.put_item("nurse@example.com", "Nurse")
        assert response.status in (403, 502), (body, response)
        if response.status == 502:
            assert response.code == "undefined-condition", body


def test_at_most_sixteen_iqs_in_flight(fake, make_gateway):
    """The rest waits; all are done in the end."""
    gateway = make_gateway(fake, limits={"writes_user": 1000})
    fake.add("juliet")
    api = gateway.sign_in("juliet@example.com")
    held = []
    fake.hook("roster_set", lambda session, element: held.append((session, element)) or True)
    answers = []

    def write(n):
        answers.append(api.with_token(api.token).put_item(f"f{n:02d}@example.com", f"F {n}").status)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(40)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(held) >= 16, 20, lambda: f"16 sets in flight, {len(held)} there")
    # Another account's read is answered meanwhile: a proof that the rest had its chance to be sent.
    fake.add("romeo")
    assert gateway.sign_in("romeo@example.com").get("/v1/roster").status == 200
    assert len(held) == 16
    fake.clear_hooks()
    for session, element in held:
        fake.reactor.call(session.answer_roster_set, element)
    for thread in threads:
        thread.join(deadline(40))
    assert answers == [201] * 40
    assert len(api.items()) == 40


def test_writes_of_one_account_keep_their_order(fake, gateway, juliet):
    """Pipelined on one connection: what is sent first reaches the server first."""
    requests = b""
    for n in range(12):
        body = b'{"name": "N%d"}' % n
        requests += (b"PUT /v1/roster/items/one@example.com HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
                     + juliet.token.encode() + b"\r\nContent-Type: application/json\r\nContent-Length: "
                     + str(len(body)).encode() + (b"\r\nConnection: close" if n == 11 else b"")
                     + b"\r\n\r\n" + body)
    sock = juliet.connect()
    sock.sendall(requests)
    while sock.recv(65536):
        pass
    names = [r.items[0].get("name") for r in fake.sets("juliet")]
    assert names == [f"N{n}" for n in range(12)]


def test_the_largest_item_of_all_limits(fake, juliet):
    """64 KiB are the limit of a body, not of an item: a PATCH adds to what is there, and so does another client."""
    groups = sorted(f"{n:03d}" + "g" * 1012 for n in range(64))
    assert juliet.put_item("full@example.com", None, groups).status == 201
    patched = juliet.patch(juliet.item_path("full@example.com"), {"name": "x" * 1023})
    assert patched.status == 200, patched
    groups = sorted(f"{n:03d}" + "g" * 1020 for n in range(100))
    fake.change("juliet", Item("full@example.com", "y" * 1023, groups))
    wait_until(lambda: juliet.items().get("full@example.com", {}).get("name") == "y" * 1023, what="the push")
    assert juliet.items()["full@example.com"] == item("full@example.com", "y" * 1023, groups)
    # Beyond all limits, by a server that takes anything: as if it were gone, and the rest goes on.
    fake.change("juliet", Item("full@example.com", "z" * 70000))
    wait_until(lambda: "full@example.com" not in juliet.items(), what="what no store could keep")
    assert juliet.put_item("nurse@example.com").status == 201 and len(fake.signed_in) == 1


def test_no_write_reaches_the_stream_that_would_break_it(fake, gateway, juliet):
    """XML special characters and long texts go through; the session is still the same at the end."""
    texts = ["<", ">", "&", "\"", "'", "]]>", "<!--", "<![CDATA[", "&amp;", "&#0;", "\u2028",
             "\ufffd", "\U0010fffd", "x" * 1023, "\u00e9" * 511]
    for text in texts:
        assert juliet.put_item("odd@example.com", text, [text]).status in (200, 201), text
        assert juliet.items()["odd@example.com"] == item("odd@example.com", text, [text])
    full = [f"{n:03d}" + "g" * 1020 for n in range(100)]
    assert juliet.put_item("full@example.com", "x" * 1023, full).status in (201, 413)
    assert len(fake.signed_in) == 1 and len(fake.parse_errors) == 0
