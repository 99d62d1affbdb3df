"""Rules R39 to R54: roster pushes (RFC 6121 2.1.6, 2.6). What other files hold of them is named in
tests/RULES.md."""
import pytest

from fakes import misbehaviour
from fakes.roster_model import Item, removal
from fakes.sites import item
from fakes.support import wait_until

ROMEO = Item("romeo@example.net", "Romeo", ["Friends"], "both")
REJECTED = "rostergate_xmpp_stanzas_rejected_total"


@pytest.fixture
def juliet(fake, gateway):
    fake.add("juliet", items=[ROMEO])
    return gateway.sign_in("juliet@example.com")


def barrier(fake, number=0):
    """A good push after the others: once it is acknowledged, all before it have been dealt with."""
    [id_] = fake.change("juliet", Item(f"barrier{number}@example.com"))
    fake.wait_acknowledged(id_)


def test_every_rejection_has_a_counter_and_a_line(fake, gateway, juliet):
    """R20, R39, R40, R42, R54: whatever is refused or ignored is counted and logged, each kind for itself,
    without a word of what stood in it."""
    session = fake.wait_session("juliet")
    evil = "<query xmlns='jabber:iq:roster' ver='evil-ver'><item jid='evil@example.com'/></query>"
    session.send(f"<iq type='set' id='e1' from='evil-sender@example.com'>{evil}</iq>")
    session.send("<iq type='set' id='e2'><query xmlns='jabber:iq:roster'/></iq>")
    session.send("<iq type='set' id='e3'><query xmlns='jabber:iq:roster'><item jid='@evil'/></query></iq>")
    session.send(f"<iq type='result' id='evil-id'>{evil}</iq>")
    session.send("<iq type='get' id='e4'><query xmlns='urn:evil'/></iq>")
    session.send("<iq type='strange' id='e5'/>")
    barrier(fake)
    for reason, count in (("push-sender", 1), ("push-items", 2), ("result-stranger", 1), ("foreign-iq", 2)):
        gateway.wait_metric(REJECTED, lambda n, count=count: n == count, reason)
    gateway.stop()
    for event in ("push-rejected", "push-refused", "answer-rejected", "iq-refused", "iq-ignored"):
        lines = gateway.log_lines(event)
        assert len(lines) >= 1, event
        assert {"user", "domain"} <= set(lines[0]) and "juliet" not in lines[0]["user"]
    assert "evil" not in gateway.log()


def test_a_flood_of_rejections_does_not_flood_the_log(fake, gateway, juliet):
    """R40: the counter has them all; the lines are few."""
    session = fake.wait_session("juliet")
    session.send("".join("<iq type='set' id='x' from='eve@example.com'>"
                         "<query xmlns='jabber:iq:roster'><item jid='evil@example.com'/></query></iq>"
                         for _ in range(500)))
    barrier(fake)
    gateway.wait_metric(REJECTED, lambda n: n == 500, "push-sender")
    gateway.stop()
    lines = gateway.log_lines("push-rejected")
    assert 1 <= len(lines) <= 5
    assert fake.acknowledged("x") == []


def test_r43_the_answer_goes_to_whom_the_push_named(fake, juliet):
    """R43: an empty result with its id, to its sender or to nobody."""
    for from_, to in ((None, (None,)), ("juliet@example.com", (None, "juliet@example.com"))):
        [id_] = fake.push_raw("juliet", Item("nurse@example.com").xml(), from_=from_)
        fake.wait_acknowledged(id_)
        [answer] = fake.acknowledged(id_)
        assert answer.element.get("to") in to and len(answer.element) == 0


def test_r44_a_push_is_acknowledged_and_kept_whatever_redis_does(fake, make_gateway):
    """R44, as built: acknowledged once it is checked. With Redis away it stands in memory, and is not lost
    to readers; what Redis missed is repaired by `ver` (tests/contract)."""
    gateway = make_gateway(fake, cache={"url": "redis://127.0.0.1:9/0"})
    fake.add("juliet", items=[ROMEO])
    api = gateway.sign_in("juliet@example.com")
    with gateway.stream(api) as stream:
        stream.wait_sync()
        [id_] = fake.change("juliet", Item("nurse@example.com", "Nurse"))
        fake.wait_acknowledged(id_)
        stream.wait_item("nurse@example.com")
        assert api.items()["nurse@example.com"] == item("nurse@example.com", "Nurse")


def test_r45_a_remove_of_what_is_not_there_brings_its_ver(fake, juliet):
    """R45: no change, and the next get carries the new `ver`."""
    version = juliet.roster()["version"]
    [id_] = fake.push_raw("juliet", removal("nobody@example.com").xml(), ver="after-nothing")
    fake.wait_acknowledged(id_)
    fake.cut_all()
    get = wait_until(lambda: next((g for g in fake.gets("juliet") if g.ver), None), what="the next get")
    assert get.ver == "after-nothing"
    assert juliet.roster()["version"] == version


@pytest.mark.parametrize("value", ["pending", "Remove", "", "REMOVE", "both "])
def test_r46_other_subscription_values_in_a_push_are_ignored(fake, juliet, value):
    """R46: RFC 6121 2.1.2.5; only `remove` removes."""
    [id_] = fake.push_raw("juliet", f"<item jid='{ROMEO.jid}' name='R' subscription='{value}'/>")
    fake.wait_acknowledged(id_)
    wait_until(lambda: juliet.items()[ROMEO.jid]["name"] == "R", what="the push")
    assert juliet.items()[ROMEO.jid]["subscription"] == "none"


def test_r48_r49_a_push_without_ver_makes_the_next_answer_a_full_one(fake, gateway, juliet):
    """R48, R49: ejabberd 2107. What changed besides, unseen, is found at the next get because no old `ver`
    is sent."""
    for n, ver in enumerate((None, "")):
        [id_] = fake.push_raw("juliet", Item(f"p{n}@example.com").xml(), ver=ver)
        fake.wait_acknowledged(id_)
        account = fake.accounts["juliet"]
        account.put(Item(f"p{n}@example.com"))
        account.put(Item(f"unseen{n}@example.com"))
        account.changes = 1          # a server whose stored `ver` did not move
        fake.cut_all()
        wait_until(lambda: f"unseen{n}@example.com" in juliet.items(), 20, "the unseen change")


def test_r50_pushes_are_applied_in_their_order(fake, gateway, juliet):
    """R50: 300 in one go over a few items; the last word on each stands, and every change was an event."""
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        session = fake.wait_session("juliet")
        session.send("".join(
            f"<iq type='set' id='o{n}'><query xmlns='jabber:iq:roster' ver='v{n}'>"
            f"<item jid='o{n % 3}@example.com' "
            + ("subscription='remove'/>" if n % 7 == 6 else f"name='N{n}'/>") + "</query></iq>"
            for n in range(300)))
        fake.wait_acknowledged("o299")
        held, events = {}, 0
        for n in range(300):
            jid = f"o{n % 3}@example.com"
            if n % 7 == 6:
                events += held.pop(jid, None) is not None
            else:
                held[jid], events = item(jid, f"N{n}"), events + 1
        barrier(fake)
        stream.wait_item("barrier0@example.com")
        assert {jid: i for jid, i in juliet.items().items() if jid[0] == "o"} == held
        assert sum(e.name.startswith("roster.") for e in stream.events.all()) == events + 1


def test_r52_early_pushes_wait_for_the_first_answer(fake, gateway):
    """R52 (RFC 6121 2.2: a client that sent the get is an interested resource, so pushes may come from then
    on; ejabberd pushes even to those that never asked). They are applied after the answer, in order."""
    fake.add("juliet", items=[ROMEO, Item("old@example.com", "Old")])

    def early(session, _element):
        fake.push_to(session, Item("early@example.com", "First").xml(), "2", id_="early1")
        fake.push_to(session, removal("old@example.com").xml(), "3", id_="early2")
        fake.push_to(session, Item("early@example.com", "Second").xml(), "4", id_="early3")
        return False
    fake.hook("roster_get", early, times=1)
    api = gateway.sign_in("juliet@example.com")
    fake.wait_acknowledged("early1", "early2", "early3")
    assert api.items() == {ROMEO.jid: ROMEO.json(), "early@example.com": item("early@example.com", "Second")}
    fake.clear_hooks()
    fake.cut_all()
    get = wait_until(lambda: (fake.gets("juliet")[1:] or [None])[0], what="the next get")
    assert get.ver == "", "what was put together here has no name at the server"


def test_r53_an_item_hidden_so_far_comes_like_an_added_one(fake, gateway, juliet):
    """R53 (RFC 6121 appendix A.1: `None + Pending In` is not in the roster; the first push that shows the
    contact may come with any state)."""
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        fake.change("juliet", Item("asked@example.com", None, [], "from"))
        assert stream.wait_item("asked@example.com").json["item"] == item("asked@example.com",
                                                                          subscription="from")
        fake.change("juliet", Item("pre@example.com", None, [], "none", approved=True))
        assert stream.wait_item("pre@example.com").json["item"]["approved"] is True


@pytest.mark.parametrize("order", ["push-first", "result-first"])
@pytest.mark.parametrize("ver", ["none", "constant", "hash", "counter"])
def test_pushes_of_own_writes_in_both_orders_with_every_ver(fake, make_gateway, order, ver):
    """R33, R47 to R51: whatever the `ver` and the order, the same answers."""
    fake.order, fake.ver_how = order, ver
    fake.add("juliet", items=[ROMEO])
    api = make_gateway(fake).sign_in("juliet@example.com")
    for name, status in (("A", 201), ("B", 200), ("A", 200)):
        response = api.put_item("nurse@example.com", name)
        assert (response.status, response.json()["item"]["name"]) == (status, name)
    assert api.delete_item("nurse@example.com").status == 204
    assert api.items() == {ROMEO.jid: ROMEO.json()}
    # One may have been 100 ms late, on a busy machine; who always asked would have asked five times.
    assert len(fake.gets("juliet")) <= 2, "the pushes were proof enough"


def test_r42_a_refused_push_is_made_good_by_reading_again(fake, gateway, juliet):
    """R42: several items in one push (Tigase does that) are refused and not applied; but they say that the
    roster has moved. It is read again in full, and no later `ver` hides what was missed."""
    account = fake.accounts["juliet"]
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        both = [Item("one@example.com"), Item("two@example.com")]
        for new in both:
            fake.reactor.call(account.put, new)
        fake.push_raw("juliet", "".join(i.xml() for i in both), id_="pack", ver="3")
        barrier(fake)
        stream.wait_item("one@example.com", timeout=20)
        stream.wait_item("two@example.com", timeout=20)
        assert [r.type for r in fake.stanzas.all() if r.id == "pack"] == ["error"]
        assert fake.gets("juliet")[1].ver == "", "a full answer was asked for"


def test_r42_a_server_that_always_packs_is_not_asked_for_ever(fake, gateway, juliet):
    """R42: each get is followed by a push of two items; the reading again stays rare."""
    pack = Item("one@example.com").xml() + Item("two@example.com").xml()

    def answer_and_pack(session, element):
        session.answer_roster_get(element)
        fake.push_to(session, pack, "3")
        return True
    fake.hook("roster_get", answer_and_pack)
    fake.push_raw("juliet", pack, ver="3")
    for n in range(20):
        barrier(fake, n)
    assert len(fake.gets("juliet")) <= 3
    assert len(fake.signed_in) == 1


def test_misbehaviour_is_not_remembered(fake, gateway, juliet):
    """After all of it an honest server is believed as before."""
    session = fake.wait_session("juliet")
    session.send("<iq type='set' id='z'><query xmlns='jabber:iq:roster'/></iq>")
    fake.hook("roster_set", misbehaviour.result_without_push, times=1)
    assert juliet.put_item("nurse@example.com").code == "not-applied"
    assert juliet.put_item("nurse@example.com").status == 201
