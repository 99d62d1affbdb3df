"""Rules R1 to R20: stream features, the roster get and how its answer is read (RFC 6121 2.1.3, 2.1.4, 2.2,
2.6). What other files hold of them is named in tests/RULES.md."""
import threading

import pytest

from fakes import misbehaviour
from fakes.roster_model import Item, removal
from fakes.sites import item
from fakes.support import wait_until

ROMEO = Item("romeo@example.net", "Romeo", ["Friends"], "both")


@pytest.fixture
def juliet(fake, gateway):
    fake.add("juliet", items=[ROMEO])
    return gateway.sign_in("juliet@example.com")


def next_get(fake):
    """Cuts the stream; the roster get of the session after it."""
    old = fake.sessions_of("juliet")
    fake.cut_all()
    get = wait_until(lambda: next((g for g in fake.gets("juliet") if g.session not in old
                                   and g.session.bound), None), what="the next get")
    fake.wait_session("juliet")
    return get


def versioned(api):
    return wait_until(lambda: (lambda body: body["state"] == "live" and body)(
        api.get("/v1/session").json()), what="live")["roster_versioning"]


def test_r1_versioning_is_what_this_connection_offers(fake, juliet):
    """R1, R2: read anew from the features of each stream; without it no `ver` leaves the gateway."""
    assert versioned(juliet) is True
    fake.rosterver = False
    assert next_get(fake).ver is None
    assert versioned(juliet) is False
    fake.rosterver = True
    # What came without versioning has no `ver` to be sent.
    assert next_get(fake).ver == ""
    assert versioned(juliet) is True
    assert next_get(fake).ver == fake.ver_of(fake.accounts["juliet"])


def test_r5_a_lost_cache_is_nothing_cached(fake, make_gateway, tmp_path):
    """R5: a gateway that has lost its memory asks with ver='' and shows what it is told. (Damaged values of
    a store: tests/contract, tests/unit/cache.)"""
    gateway = make_gateway(fake, session={"keys_file": str(tmp_path / "keys"),
                                          "state_file": str(tmp_path / "state")})
    fake.add("juliet", items=[ROMEO])
    token = gateway.sign_in("juliet@example.com").token
    gateway.restart()
    fake.accounts["juliet"].put(Item("new@example.com"))
    assert set(gateway.api(token).items()) == {ROMEO.jid, "new@example.com"}
    assert [get.ver for get in fake.gets("juliet")] == ["", ""]


def test_r10_after_a_cut_in_mid_push_the_last_whole_push_counts(fake, gateway, juliet):
    """R10: the `ver` of the last push that was applied, neither the result's nor the half one's."""
    for n in (1, 2):
        [id_] = fake.push_raw("juliet", Item(f"p{n}@example.com").xml(), ver=f"push-{n}")
        fake.wait_acknowledged(id_)
    [session] = fake.sessions_of("juliet")
    session.send("<iq type='set' id='half'><query xmlns='jabber:iq:roster' ver='push-3'>"
                 "<item jid='p3@example.com'/></query>")
    assert next_get(fake).ver == "push-2"
    assert "p3@example.com" not in juliet.items()


def test_r11_pushes_may_follow_an_unchanged_answer(fake, gateway, juliet):
    """R11: a result without query, then the changes as pushes (RFC 6121 2.6.3)."""
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        nurse, gone = Item("nurse@example.com", "Nurse"), removal(ROMEO.jid)

        def unchanged_then_pushes(session, element):
            misbehaviour.unchanged(session, element)
            fake.push_to(session, nurse.xml(), "7")
            fake.push_to(session, gone.xml(), "8")
            return True
        fake.hook("roster_get", unchanged_then_pushes, times=1)
        fake.cut_all()
        stream.wait_item("nurse@example.com")
        stream.wait_removed(ROMEO.jid)
        assert "roster" not in stream.names()[1:]
        assert set(juliet.items()) == {"nurse@example.com"}
        assert next_get(fake).ver == "8"


def test_r12_an_empty_query_empties_the_roster(fake, gateway, juliet):
    """R12: not the same as no query at all."""
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        fake.hook("roster_get", misbehaviour.roster_result("", "9"), times=1)
        fake.cut_all()
        stream.wait_removed(ROMEO.jid)
        assert juliet.items() == {}
        # R14: that `ver` came with no items, so it is not sent back.
        assert next_get(fake).ver == ""


def test_r13_a_full_answer_replaces_the_set_in_one_step(fake, gateway, juliet):
    """R13: what is missing is removed; no reader ever sees a mixture of both sets."""
    old = [Item(f"old{n}@example.com") for n in range(20)]
    new = [Item(f"new{n}@example.com") for n in range(20)]
    fake.hook("roster_get", misbehaviour.roster_result("".join(i.xml() for i in old), "1"), times=1)
    next_get(fake)
    wait_until(lambda: len(juliet.items()) == 20, what="the first set")
    seen, stop = set(), threading.Event()

    def read():
        reader = juliet.with_token(juliet.token)
        while not stop.is_set():
            seen.add(frozenset(reader.items()))
    reading = threading.Thread(target=read)
    reading.start()
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        fake.hook("roster_get", misbehaviour.roster_result("".join(i.xml() for i in new), "2"), times=1)
        fake.cut_all()
        wait_until(lambda: "new0@example.com" in juliet.items(), what="the second set")
        stop.set()
        reading.join()
        assert seen <= {frozenset(i.jid for i in old), frozenset(i.jid for i in new)}
        assert set(juliet.items()) == {i.jid for i in new}
        stream.wait_for(lambda e: e.id == juliet.roster()["version"])
        assert stream.roster() == juliet.items()
        kinds = [e.name for e in stream.events.all() if e.name.startswith("roster.")]
        assert sorted(kinds) == ["roster.remove"] * 20 + ["roster.set"] * 20
    assert next_get(fake).ver == "2", "the set and its `ver` belong together"


def test_r14_a_full_answer_without_ver_leaves_nothing_to_send(fake, juliet):
    """R14: on a stream with versioning the next get says ver='' again."""
    fake.hook("roster_get", misbehaviour.roster_result(ROMEO.xml()), times=1)
    assert next_get(fake).ver != ""
    assert next_get(fake).ver == ""
    assert set(juliet.items()) == {ROMEO.jid}


def test_r14_a_ver_with_no_items_may_be_our_own_echo(fake, gateway):
    """R14: not stored, until a push brings one."""
    fake.add("juliet")
    fake.hook("roster_get", misbehaviour.roster_result("", "echo"))
    api = gateway.sign_in("juliet@example.com")
    assert next_get(fake).ver == ""
    fake.clear_hooks()
    [id_] = fake.change("juliet", ROMEO, ver="confirmed")
    fake.wait_acknowledged(id_)
    wait_until(lambda: set(api.items()) == {ROMEO.jid}, what="the push")
    assert next_get(fake).ver == "confirmed"


def test_r15_no_roster_service_is_not_an_empty_roster(fake, gateway):
    """R15: service-unavailable at sign-in is an error, in a live session it leaves what is cached."""
    fake.add("juliet", items=[ROMEO])
    unhook = fake.hook("roster_get", misbehaviour.error("service-unavailable"))
    refused = gateway.api().try_sign_in("juliet@example.com")
    assert (refused.status, refused.code) == (503, "service-unavailable")
    unhook()
    api = gateway.sign_in("juliet@example.com")
    version = api.roster()["version"]
    fake.hook("roster_get", misbehaviour.error("service-unavailable"))
    answer = api.get("/v1/roster", headers={"Cache-Control": "no-cache"})
    assert answer.status in (200, 503), answer
    assert api.roster() == {"version": version, "items": [ROMEO.json()]}


@pytest.mark.parametrize("value", ["remove", "Both", "none ", "pending", "", "strange"])
def test_r16_other_subscription_values_in_a_result_are_none(fake, gateway, value):
    """R16: RFC 6121 2.1.2.5 has the value ignored, and a missing one means `none`."""
    fake.add("juliet")
    fake.hook("roster_get", misbehaviour.roster_result(
        f"<item jid='a@example.com' subscription='{value}'/><item jid='b@example.com'/>"))
    held = gateway.sign_in("juliet@example.com").items()
    assert held["b@example.com"]["subscription"] == "none"
    assert held.get("a@example.com", {"subscription": "none"})["subscription"] == "none"


def test_r18_items_without_jid_are_counted(fake, gateway):
    """R18: RFC 6121 2.1.2.3 makes `jid` REQUIRED, so such an item cannot be shown; the others can."""
    fake.add("juliet")
    fake.hook("roster_get", misbehaviour.roster_result(
        "<item/><item jid='@'/><item jid='good@example.com'/><item jid='&#10;'/>"))
    assert set(gateway.sign_in("juliet@example.com").items()) == {"good@example.com"}
    gateway.wait_metric("rostergate_xmpp_items_skipped_total", lambda n: n == 3)


def test_r17_merged_items_are_counted(fake, gateway):
    """R17: shared rosters list a contact once for each group."""
    fake.add("juliet")
    fake.hook("roster_get", misbehaviour.roster_result("".join(
        f"<item jid='a@example.com' subscription='both'><group>g{n}</group></item>" for n in range(5))))
    held = gateway.sign_in("juliet@example.com").items()
    assert held["a@example.com"]["groups"] == [f"g{n}" for n in range(5)]
    gateway.wait_metric("rostergate_xmpp_items_merged_total", lambda n: n == 4)


@pytest.mark.parametrize("form", ["absent", "bare", "full", "domain", "BARE"])
def test_r20_answers_of_the_own_server_are_believed(fake, gateway, form):
    """R20: from nobody, the own bare or full JID, or (old servers) the own domain."""
    fake.add("juliet", items=[ROMEO])

    def answer(session, body):
        from_ = {"absent": "", "bare": session.bare, "full": session.jid, "domain": fake.domain,
                 "BARE": session.bare.upper()}[form]
        return lambda element: session.write(
            f"<iq type='result' id='{element.get('id')}'" + (f" from='{from_}'" if from_ else "")
            + f">{body}</iq>")

    def get(session, element):
        session.interested = True
        answer(session, fake.roster_xml(session.account))(element)
        return True

    def store(session, element):
        answer(session, "")(element)
        fake.push_now("juliet", fake.accounts["juliet"].set_by_client("nurse@example.com", None, []))
        return True
    fake.hook("roster_get", get)
    fake.hook("roster_set", store)
    api = gateway.sign_in("juliet@example.com")
    assert api.put_item("nurse@example.com").json()["item"] == item("nurse@example.com")


def test_r20_an_answer_to_nothing_is_dropped(fake, gateway, juliet):
    """R20: the right sender, an id that is not ours or was answered already."""
    [get] = fake.gets("juliet")
    evil = "<query xmlns='jabber:iq:roster' ver='evil'/>"
    for id_ in (get.id, "other", ""):
        get.session.send(f"<iq type='result' id='{id_}'>{evil}</iq>")
    [id_] = fake.change("juliet", Item("barrier@example.com"))
    fake.wait_acknowledged(id_)
    wait_until(lambda: "barrier@example.com" in juliet.items(), what="the barrier")
    assert set(juliet.items()) == {ROMEO.jid, "barrier@example.com"}
    gateway.wait_metric("rostergate_xmpp_stanzas_rejected_total", lambda n: n == 3, "result-stranger")
