"""Pushes and answers that must not be believed, and odd ones that must be (RFC 6121 2.1.6; R16 to R20, R39
to R54)."""
import pytest

from fakes import misbehaviour
from fakes.roster_model import Item
from fakes.sites import item
from fakes.support import wait_until

ROMEO = Item("romeo@example.net", "Romeo", ["Friends"], "both")
REJECTED = "rostergate_xmpp_stanzas_rejected_total"
EVIL = Item("evil@example.com", "Evil", [], "both")


@pytest.fixture
def juliet(fake, gateway):
    fake.add("juliet", items=[ROMEO])
    return gateway.sign_in("juliet@example.com")


def barrier(fake, seen):
    """A good push after the others: when it is visible (to a stream or a reader), all before it have been
    dealt with."""
    [id_] = fake.change("juliet", Item("barrier@example.com", "B"))
    fake.wait_acknowledged(id_)
    if hasattr(seen, "wait_item"):
        seen.wait_item("barrier@example.com")
    else:
        wait_until(lambda: "barrier@example.com" in seen.items(), what="the barrier")


FORGED = ["eve@example.com", "juliet@example.com/evil", "example.com", "juliet@example.com.evil.example",
          "xjuliet@example.com", "juliet@example.org", "juliet@sub.example.com", "juliet%40@example.com",
          "j\u0443liet@example.com", "juliet@example.com/", "juliet", "@example.com", "",
          "juliet@example.com@example.com", "full-jid"]


@pytest.mark.parametrize("sender", FORGED)
def test_a_push_from_anybody_else_is_ignored_in_silence(fake, gateway, juliet, sender):
    """R39, R40: nothing is applied, nothing is answered, it is counted."""
    session = fake.wait_session("juliet")
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        who = session.jid if sender == "full-jid" else sender
        fake.push_raw("juliet", EVIL.xml(), from_=who, id_="forged", ver="evil")
        barrier(fake, stream)
        assert "evil@example.com" not in juliet.items()
        assert [r for r in fake.stanzas.all() if r.id == "forged"] == []
        gateway.wait_metric(REJECTED, lambda n: n == 1, "push-sender")
        fake.cut_all()
        wait_until(lambda: len(fake.gets("juliet")) == 2, what="the next get")
        assert fake.gets("juliet")[1].ver != "evil"


@pytest.mark.parametrize("sender", ["juliet@example.com", "JULIET@Example.COM"])
def test_a_push_from_the_own_bare_jid_is_believed(fake, gateway, juliet, sender):
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        [id_] = fake.push_raw("juliet", Item("nurse@example.com", "Nurse").xml(), from_=sender, ver="9")
        stream.wait_item("nurse@example.com")
        fake.wait_acknowledged(id_)


@pytest.mark.parametrize("inside", ["", EVIL.xml() + Item("evil2@example.com").xml(), "<other/>",
                                    "<item xmlns='urn:x' jid='evil@example.com'/>"],
                         ids=["none", "two", "other", "other namespace"])
def test_a_push_without_exactly_one_item_is_refused(fake, gateway, juliet, inside):
    """R42: bad-request, no change."""
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        fake.push_raw("juliet", inside, id_="odd", ver="odd")
        barrier(fake, stream)
        answers = [r for r in fake.stanzas.all() if r.id == "odd"]
        assert len(answers) == 1 and answers[0].type == "error"
        assert not {"evil@example.com", "evil2@example.com"} & juliet.items().keys()


@pytest.mark.parametrize("inside", ["<item name='no jid'/>", "<item jid=''/>", "<item jid='@'/>",
                                    "<item jid='a b@example.com'/>"])
def test_a_push_whose_item_has_no_good_jid_changes_nothing(fake, gateway, juliet, inside):
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        fake.push_raw("juliet", inside, id_="odd")
        barrier(fake, stream)
        assert set(juliet.items()) == {"romeo@example.net", "barrier@example.com"}
        assert [r.type for r in fake.stanzas.all() if r.id == "odd"] in (["error"], ["result"])


def test_an_unknown_subscription_value_is_none_and_the_push_is_answered(fake, gateway, juliet):
    """R46, R16: values outside none, to, from, both are ignored."""
    [id_] = fake.push_raw("juliet", "<item jid='nurse@example.com' name='N' subscription='pending'/>")
    fake.wait_acknowledged(id_)
    barrier(fake, juliet)
    held = juliet.items()
    assert held.get("nurse@example.com", item("nurse@example.com", "N")) == item("nurse@example.com", "N")


def test_a_remove_of_what_is_not_there_is_no_event(fake, gateway, juliet):
    """R45."""
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        [id_] = fake.push_raw("juliet", "<item jid='nobody@example.com' subscription='remove'/>", ver="5")
        fake.wait_acknowledged(id_)
        barrier(fake, stream)
        assert "roster.remove" not in stream.names()


@pytest.mark.parametrize("ver,sent", [("counter-77", "counter-77"), (None, ""), ("", "")])
def test_the_next_get_carries_the_ver_of_the_last_push(fake, gateway, juliet, ver, sent):
    """R10, R47 to R49: bytes as they came; a push without ver leaves nothing to send."""
    [id_] = fake.push_raw("juliet", Item("nurse@example.com").xml(), ver=ver)
    fake.wait_acknowledged(id_)
    wait_until(lambda: "nurse@example.com" in juliet.items(), what="the push")
    fake.cut_all()
    wait_until(lambda: len(fake.gets("juliet")) == 2, what="the next get")
    assert fake.gets("juliet")[1].ver == sent


def test_ver_goes_back_byte_for_byte(fake, gateway, juliet):
    """R4: never parsed, trimmed or ordered."""
    strange = " \u00e9<&\"'> 0007 -1 \U0001f469 "
    [id_] = fake.push_raw("juliet", Item("nurse@example.com").xml(), ver=strange)
    fake.wait_acknowledged(id_)
    fake.cut_all()
    wait_until(lambda: len(fake.gets("juliet")) == 2, what="the next get")
    assert fake.gets("juliet")[1].ver == strange


def test_a_repeated_ver_is_not_taken_for_already_applied(fake, gateway, juliet):
    """R51: hash servers go back to an old value."""
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        for name in ("A", "B", "A"):
            fake.change("juliet", Item("nurse@example.com", name), ver="the-same")
        barrier(fake, stream)
        names = [e.json["item"]["name"] for e in stream.events.all() if e.name == "roster.set"]
        assert names == ["A", "B", "A", "B"]


@pytest.mark.parametrize("how", ["hash", "constant", "none", "counter"])
def test_every_kind_of_ver_gives_the_same_api(fake, make_gateway, how):
    fake.ver_how = how
    fake.add("juliet", items=[ROMEO])
    gateway = make_gateway(fake)
    api = gateway.sign_in("juliet@example.com")
    with gateway.stream(api) as stream:
        stream.wait_sync()
        assert api.put_item("nurse@example.com", "N").status == 201
        assert api.delete_item("nurse@example.com").status == 204
        fake.cut_all()
        wait_until(lambda: len(fake.gets("juliet")) >= 2, what="the next get")
        fake.wait_session("juliet")
        if how != "constant":
            fake.accounts["juliet"].put(Item("quiet@example.com"))
            fake.cut_all()
            stream.wait_item("quiet@example.com", timeout=20)
        assert stream.roster() == api.items()


def test_a_push_before_the_first_result_is_applied_after_it(fake, gateway):
    """R52."""
    fake.add("juliet", items=[ROMEO])
    fake.hook("roster_get", misbehaviour.push_before_answer(Item("early@example.com", "Early").xml(), "2"),
              times=1)
    api = gateway.sign_in("juliet@example.com")
    wait_until(lambda: {"early@example.com", "romeo@example.net"} == set(api.items()), what="both items")


@pytest.mark.parametrize("sender", ["eve@example.com", "eve@example.com/x", "example.org",
                                    "romeo@example.net", "juliet@example.com.evil.example"])
def test_an_answer_of_a_stranger_with_the_right_id_is_dropped(fake, gateway, sender):
    """R20: libstrophe does not check this."""
    fake.add("juliet", items=[ROMEO])
    fake.hook("roster_get", misbehaviour.stranger_answers_first(sender, EVIL.xml()))
    fake.hook("roster_set", lambda session, element: session.write(
        f"<iq type='error' id='{element.get('id')}' from='{sender}'><error type='auth'><forbidden "
        "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>") and False)
    api = gateway.sign_in("juliet@example.com")
    assert set(api.items()) == {"romeo@example.net"}
    assert api.put_item("nurse@example.com").status == 201
    gateway.wait_metric(REJECTED, lambda n: n >= 2, "result-stranger")


def test_an_honest_server_is_never_suspected(fake, gateway):
    """Sign-ins, reads, writes and pushes of a good server raise no count and no line in the log."""
    fake.add("juliet", items=[ROMEO])
    for _ in range(3):
        api = gateway.sign_in("juliet@example.com")
        api.put_item("nurse@example.com")
        api.delete_item("nurse@example.com")
        api.delete("/v1/session?all=1")
    gateway.wait_metric("rostergate_xmpp_pushes_total", lambda n: n == 6)
    assert gateway.metric(REJECTED) == 0
    gateway.stop()
    assert not [line for line in gateway.log_lines() if "reject" in line["event"]]


def test_duplicate_jids_in_one_result_are_merged(fake, gateway):
    """R17: union of the groups."""
    fake.add("juliet")
    fake.hook("roster_get", misbehaviour.roster_result(
        "<item jid='a@example.com' name='A' subscription='both'><group>one</group></item>"
        "<item jid='A@example.com' name='A' subscription='both'><group>two</group><group>one</group></item>"
        "<item jid='b@example.com'/>"))
    api = gateway.sign_in("juliet@example.com")
    assert api.items()["a@example.com"]["groups"] == ["one", "two"]
    assert set(api.items()) == {"a@example.com", "b@example.com"}


def test_items_without_a_good_jid_are_skipped_and_the_rest_kept(fake, gateway):
    """R18, R19, R16."""
    fake.add("juliet")
    fake.hook("roster_get", misbehaviour.roster_result(
        "<item name='nobody'/><item jid=''/><item jid='x y@example.com'/><other xmlns='urn:x'/>"
        "<item jid='a@example.com' subscription='strange' x:y='1' xmlns:x='urn:x'><channel xmlns='urn:m'/>"
        "<group>g</group><group/></item>"
        "<item jid='b@example.com' subscription='remove'/><item jid='c@example.com' ask='unsubscribe'/>"))
    api = gateway.sign_in("juliet@example.com")
    held = api.items()
    assert held["a@example.com"]["subscription"] == "none" and held["a@example.com"]["name"] is None
    assert "g" in held["a@example.com"]["groups"]
    assert held["c@example.com"]["ask"] is None
    assert set(held) <= {"a@example.com", "b@example.com", "c@example.com"}


def test_twenty_thousand_items_and_not_one_more(fake, gateway):
    fake.add("juliet", items=misbehaviour.many_items(20000))
    api = gateway.sign_in("juliet@example.com")
    assert len(api.roster()["items"]) == 20000


@pytest.mark.parametrize("stanza", [
    "<iq type='get' id='q1' from='eve@example.com/x'><query xmlns='jabber:iq:version'/></iq>",
    "<iq type='set' id='q1'><query xmlns='urn:strange'/></iq>",
    "<iq type='get' id='q1'><query xmlns='jabber:iq:roster'/></iq>"])
def test_other_questions_get_service_unavailable(fake, juliet, stanza):
    """R54: libstrophe answers nothing by itself."""
    fake.wait_session("juliet").send(stanza)
    answer = fake.stanzas.wait_for(lambda r: r.id == "q1")
    assert answer.type == "error"
    assert answer.element.find(".//{*}service-unavailable") is not None


@pytest.mark.parametrize("stanza", [
    "<message from='eve@example.com'><body>hello</body></message>",
    "<presence from='eve@example.com/x'/>", "<iq type='result' id='unknown'/>",
    "<iq type='error' id='unknown' from='eve@example.com'/>", "<iq/>", "<iq type='set'/>",
    "<iq type='strange' id='1'/>", "<unknown xmlns='urn:x'/>", "<presence type='strange'/>",
    "<iq type='set' id=''><query xmlns='jabber:iq:roster'/></iq>",
    "<iq type='result'><query xmlns='jabber:iq:roster'><item jid='evil@example.com'/></query></iq>"])
def test_stanzas_of_no_concern_do_nothing(fake, gateway, juliet, stanza):
    fake.wait_session("juliet").send(stanza)
    barrier(fake, juliet)
    assert set(juliet.items()) == {"romeo@example.net", "barrier@example.com"}
    assert len(fake.signed_in) == 1, "the session was lost"
    assert not [r for r in fake.stanzas.all() if r.kind in ("message", "presence")]
