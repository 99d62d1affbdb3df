"""A server that does wrong in the middle of a session: the front goes on, what is cached stays readable, the
session comes back and the roster is the server's again (issue 4, bad input). What happens at sign-in stands
in test_signin.py, broken XML, deep nesting and endless stanzas in test_workers.py."""
import pytest

from fakes import misbehaviour
from fakes.roster_model import Item
from fakes.support import wait_until

ROMEO = Item("romeo@example.net", "Romeo", ["Friends"], "both")
REFRESH = {"Cache-Control": "no-cache"}


@pytest.fixture
def juliet(fake, gateway):
    fake.add("juliet", items=[ROMEO])
    return gateway.sign_in("juliet@example.com")


def back(fake, gateway, api):
    """The front never went, the session is back, the replica is the truth, events flow."""
    fake.clear_hooks()
    account = fake.accounts["juliet"]
    assert gateway.operations("/livez").status == 200
    wait_until(lambda: api.get("/v1/session").json()["state"] == "live", 30, "live again", 0.05)
    wait_until(lambda: api.items() == {i.jid: i.json() for i in account.items.values()}, 10,
               "the server's roster")
    with gateway.stream(api) as stream:
        stream.wait_sync()
        fake.change("juliet", Item("after@example.com", "After"))
        stream.wait_item("after@example.com")


@pytest.mark.parametrize("condition", ["conflict", "policy-violation", "system-shutdown", "see-other-host",
                                       "not-well-formed", "reset", "made-up-condition",
                                       "resource-constraint"])
def test_stream_errors(fake, gateway, juliet, condition):
    [session] = fake.sessions_of("juliet")
    fake.reactor.call(session.stream_error, condition, "Because &lt;of&gt; it")
    assert set(juliet.items()) == {ROMEO.jid}
    back(fake, gateway, juliet)


@pytest.mark.parametrize("how", [
    misbehaviour.half_roster, misbehaviour.close, misbehaviour.reset, misbehaviour.silent,
    misbehaviour.raw(misbehaviour.GARBAGE), misbehaviour.raw("</stream:stream>"),
    misbehaviour.raw("<iq type='result' id='{id}'><query xmlns='jabber:iq:roster'><item jid='x@y'"),
    misbehaviour.raw("<iq type='error' id='{id}'/>"), misbehaviour.raw("<iq type='error' id='{id}'><error/></iq>"),
    misbehaviour.unchanged, misbehaviour.error("internal-server-error", "wait"),
    misbehaviour.stream_error("internal-server-error")],
    ids=["half", "close", "reset", "silent", "garbage", "end", "half item", "bare error", "empty error",
         "unchanged what was never told", "error", "stream error"])
def test_a_get_in_a_live_session_that_goes_wrong(fake, make_gateway, how):
    """The reader gets the cached roster, marked or not, or a clean error; nothing is removed by it."""
    gateway = make_gateway(fake, xmpp={"iq_timeout": "1s"})
    fake.add("juliet", items=[ROMEO, *misbehaviour.many_items(50)])
    api = gateway.sign_in("juliet@example.com")
    fake.hook("roster_get", how, times=1)
    response = api.get("/v1/roster", headers=REFRESH)
    assert response.status in (200, 502, 503, 504), response
    if response.status == 200:
        assert len(response.json()["items"]) == 51
    back(fake, gateway, api)


@pytest.mark.parametrize("how", [
    misbehaviour.close, misbehaviour.raw(misbehaviour.GARBAGE), misbehaviour.stream_error("policy-violation"),
    misbehaviour.raw("<iq type='result' id='{id}'"), misbehaviour.silent,
    misbehaviour.raw("<iq type='result' id='{id}' from='eve@example.com'/>"),
    misbehaviour.raw("<iq type='set' id='{id}'/>")],
    ids=["close", "garbage", "stream error", "half a result", "silent", "a stranger's result", "a set"])
def test_a_set_that_goes_wrong_is_unknown_never_done(fake, make_gateway, how):
    """R20, R32: 504, and the roster is read again; a stranger's result is none."""
    gateway = make_gateway(fake, xmpp={"iq_timeout": "1s"})
    fake.add("juliet", items=[ROMEO])
    api = gateway.sign_in("juliet@example.com")
    fake.hook("roster_set", how, times=1)
    response = api.put_item("nurse@example.com", "Nurse")
    assert (response.status, response.code) == (504, "outcome-unknown"), response
    back(fake, gateway, api)
    assert "nurse@example.com" not in api.items()


@pytest.mark.parametrize("xml", [
    "<item jid='a@b.example' " + " ".join(f"x{n}='1'" for n in range(5000)) + "/>",
    "<item jid='a@b.example' name='" + "n" * 200000 + "'/>",
    "<item jid='a@b.example'>" + "".join(f"<group>{n}</group>" for n in range(20000)) + "</item>",
    "<item jid='a@b.example'><group>" + "<g>" * 2000 + "</g>" * 2000 + "</group></item>",
    "<item jid='" + "j" * 100000 + "@b.example'/>",
    "<item jid='a@b.example' xmlns=''/>",
    "<item jid='a@b.example'><item jid='c@b.example'/></item>",
    "<item jid='a@b.example' subscription='both' ask='both' approved='maybe'/>",
    "text<item jid='a@b.example'/>text",
    "<item jid='a@b.example'><group>x</group><group>x</group><group/><group> </group></item>",
    "<item jid='a@b.example' name='\ufffd\U0010ffff'/>"],
    ids=["attributes", "long name", "groups", "deep group", "long jid", "no namespace", "item in item",
         "odd values", "mixed text", "odd groups", "odd characters"])
def test_odd_items_in_a_result_and_in_a_push(fake, make_gateway, xml):
    """Taken as far as it makes sense, or skipped and counted; never fatal, and the same whichever way it
    comes."""
    gateway = make_gateway(fake)
    fake.add("juliet", items=[ROMEO])
    fake.hook("roster_get", misbehaviour.roster_result(xml + ROMEO.xml(), "1"), times=1)
    api = gateway.sign_in("juliet@example.com")
    by_result = api.items()
    assert by_result[ROMEO.jid] == ROMEO.json()
    fake.add("nurse", items=[ROMEO])
    other = gateway.sign_in("nurse@example.com")
    fake.push_raw("nurse", xml, id_="odd")
    [id_] = fake.change("nurse", Item("barrier@example.com"))
    fake.wait_acknowledged(id_)
    wait_until(lambda: "barrier@example.com" in other.items(), what="the barrier")
    by_push = other.items()
    del by_push["barrier@example.com"]
    assert by_push == by_result
    assert len(fake.signed_in) == 2


def test_many_wrongs_at_once_cost_one_user_only(fake, gateway, juliet):
    """While one session is fed everything, another user's writes go on."""
    fake.add("nurse", items=[ROMEO])
    other = gateway.sign_in("nurse@example.com")
    [session] = fake.sessions_of("juliet")
    for n in range(20):
        session.send(f"<iq type='set' id='a{n}' from='eve@example.com'><query xmlns='jabber:iq:roster'/></iq>"
                     f"<iq type='result' id='b{n}'/><iq type='set' id='c{n}'><query xmlns='jabber:iq:roster'/>"
                     f"</iq><presence from='eve@example.com' type='error'/><message/><iq type='get' id='d{n}'/>")
        assert other.put_item("friend@example.com", f"N{n}").status in (200, 201)
    session.send(misbehaviour.GARBAGE)
    assert other.put_item("friend@example.com", "last").status == 200
    assert len([s for s in fake.signed_in.all() if s.user == "nurse"]) == 1
    back(fake, gateway, juliet)
