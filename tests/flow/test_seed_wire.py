"""The same exchanges as the XMPP server sees them: what stands in each stanza of the gateway, what is
acknowledged, and what is never sent (RFC 6121 2.1.2 to 2.1.6, 2.3 to 2.5)."""
import pytest

from fakes import misbehaviour
from fakes.roster_model import Item, removal
from fakes.sites import item
from fakes.support import wait_until
from fakes.xmpp_stream import ROSTER, tag

ROMEO = Item("romeo@example.net", "Romeo", ["Friends"], "both")


@pytest.fixture
def juliet(fake, gateway):
    fake.add("juliet", items=[ROMEO])
    return gateway.sign_in("juliet@example.com")


def test_the_first_get_is_sent_after_bind_and_before_any_presence(fake, juliet):
    """R7, R3, R6: one get, ver='' as versioning is offered and nothing is cached, no items inside."""
    [get] = fake.gets("juliet")
    assert get.ver == "" and len(get.query) == 0
    assert fake.presences() == []
    assert juliet.items() == {ROMEO.jid: ROMEO.json()}


def test_without_the_feature_no_ver_is_sent(fake, gateway):
    """R2."""
    fake.rosterver = False
    fake.add("juliet", items=[ROMEO])
    api = gateway.sign_in("juliet@example.com")
    assert [get.ver for get in fake.gets()] == [None]
    assert api.get("/v1/session").json()["roster_versioning"] is False


def test_a_set_has_one_item_and_nothing_it_must_not_have(fake, juliet):
    """R21 to R24: one item; no subscription, ask or approved."""
    assert juliet.put_item("nurse@example.com", "Nurse", ["Servants", "A"]).status == 201
    [record] = fake.sets("juliet")
    [sent] = record.items
    assert sent.attrib == {"jid": "nurse@example.com", "name": "Nurse"}
    assert sorted(g.text for g in sent.findall(tag("group", ROSTER))) == ["A", "Servants"]
    assert list(record.query) == [sent] and record.query.attrib == {}
    assert record.element.get("to") in (None, "juliet@example.com")
    assert record.element.get("from") in (None, record.session.jid)


def test_clearing_the_name_leaves_the_attribute_out(fake, juliet):
    """R30."""
    response = juliet.put_item("romeo@example.net", None, ["Friends"])
    assert response.json()["item"]["name"] is None
    [sent] = fake.sets("juliet")[0].items
    assert sent.get("name", "") == ""
    assert juliet.put_item("romeo@example.net", "", ["Friends"]).json()["item"]["name"] is None


def test_a_remove_has_jid_and_subscription_and_nothing_else(fake, juliet):
    """R55, and R56: the presence stanzas that follow are the server's; the gateway sends none."""
    assert juliet.delete_item("romeo@example.net").status == 204
    [record] = fake.sets("juliet")
    [sent] = record.items
    assert sent.attrib == {"jid": "romeo@example.net", "subscription": "remove"}
    assert len(sent) == 0
    for kind in ("unsubscribe", "unsubscribed", "unavailable"):
        record.session.send(f"<presence from='romeo@example.net' to='juliet@example.com'"
                            f" type='{kind}'/>")
    # A later answer proves that the presences were read; nothing was said to them.
    assert juliet.put_item("nurse@example.com").status == 201
    assert fake.presences() == []
    assert "romeo@example.net" not in juliet.items()


@pytest.mark.parametrize("order", ["result-first", "push-first"])
def test_result_and_push_in_either_order(fake, juliet, order):
    """R33."""
    fake.order = order
    response = juliet.put_item("nurse@example.com", "Nurse")
    assert response.status == 201
    assert response.json()["item"] == item("nurse@example.com", "Nurse")
    assert juliet.roster()["version"] == response.version
    assert juliet.delete_item("nurse@example.com").status == 204


def test_every_push_is_acknowledged_with_its_id(fake, gateway, juliet):
    """R43: an empty result with the id of the push, one for each resource that got it."""
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        ids = []
        for n in range(5):
            ids += fake.change("juliet", Item(f"friend{n}@example.com", f"Friend {n}"))
        fake.wait_acknowledged(*ids)
        for id_ in ids:
            [answer] = fake.acknowledged(id_)
            assert len(answer.element) == 0
            assert answer.element.get("to") in (None, "juliet@example.com", answer.session.jid)
        for n in range(5):
            stream.wait_item(f"friend{n}@example.com")
    assert len(juliet.items()) == 6


def test_own_writes_are_acknowledged_too(fake, juliet):
    juliet.put_item("nurse@example.com", "Nurse")
    wait_until(lambda: [r for r in fake.stanzas.all() if r.kind == "iq" and r.type == "result"],
               what="acknowledgement")


def test_a_refusal_is_a_problem_and_changes_nothing(fake, gateway, juliet):
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        before = juliet.roster()
        fake.hook("roster_set", misbehaviour.error("forbidden", "auth", "Not &lt;you&gt;"), times=1)
        response = juliet.put_item("nurse@example.com", "Nurse")
        assert (response.status, response.code) == (403, "forbidden")
        assert response.json()["xmpp"] == {"condition": "forbidden", "type": "auth",
                                           "text": "Not <you>"}
        assert juliet.roster() == before
        fake.change("juliet", Item("last@example.com"))
        stream.wait_item("last@example.com")
        assert [e.name for e in stream.events.all() if e.name.startswith("roster.")] == ["roster.set"]


def test_a_refused_delete_changes_nothing(fake, juliet):
    fake.hook("roster_set", misbehaviour.error("not-allowed"), times=1)
    response = juliet.delete_item("romeo@example.net")
    assert (response.status, response.code) == (403, "not-allowed")
    assert "romeo@example.net" in juliet.items()


def test_a_delete_of_what_is_not_there_is_404_whatever_the_server_says(fake, juliet):
    """R58: ejabberd says result to it, Prosody item-not-found."""
    fake.hook("roster_set", misbehaviour.result_without_push)
    response = juliet.delete_item("nobody@example.com")
    assert (response.status, response.code) == (404, "item-not-found")


def test_an_item_that_vanished_meanwhile_is_404(fake, juliet):
    fake.pushes = False
    fake.change("juliet", removal("romeo@example.net"))
    response = juliet.delete_item("romeo@example.net")
    assert (response.status, response.code) == (404, "item-not-found")


def test_no_roster_is_not_an_empty_roster(fake, gateway):
    """R15, API 2: item-not-found on the get."""
    fake.add("juliet", items=None)
    api = gateway.api().try_sign_in("juliet@example.com")
    assert api.status == 201 and api.json()["version"] is None
    api = gateway.api(api.json()["token"])
    response = api.get("/v1/roster")
    assert (response.status, response.code) == (404, "roster-not-found")
    with gateway.stream(api) as stream:
        sync = stream.wait_sync()
        assert sync.id is None and sync.json["version"] is None
        assert stream.wait_for("session").json["reason"] == "roster-not-found"
        written = api.put_item("nurse@example.com", "Nurse")
        assert written.status == 201
        roster = stream.wait_for("roster")
        assert [i["jid"] for i in roster.json["items"]] == ["nurse@example.com"]
    assert [i["jid"] for i in api.roster()["items"]] == ["nurse@example.com"]


def test_a_result_without_query_means_unchanged(fake, gateway, juliet):
    """R11: after a cut the server says only that the cache is current; nothing is lost, nothing sent."""
    with gateway.stream(juliet) as stream:
        first = stream.wait_sync()
        known = fake.ver_of(fake.accounts["juliet"])
        fake.cut_all()
        wait_until(lambda: len(fake.gets("juliet")) == 2, what="second get")
        # R4: the bytes of the server's ver, nothing else.
        assert fake.gets("juliet")[1].ver == known
        stream.wait_for(lambda e: e.name == "session" and e.json["state"] == "live")
        assert juliet.roster() == {"version": first.id, "items": [ROMEO.json()]}
        assert [n for n in stream.names() if n.startswith("roster")] == ["roster"]


def test_an_empty_query_means_an_empty_roster(fake, gateway, juliet):
    """R12: every item becomes a removal."""
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        fake.refuse()
        fake.cut_all()
        fake.accounts["juliet"].remove(ROMEO.jid)
        fake.listen()
        stream.wait_removed(ROMEO.jid, timeout=20)
        assert juliet.roster()["items"] == []


def test_the_ver_of_an_empty_roster_is_never_sent(fake, gateway):
    """facts, libstrophe 5: Prosody names two states of an empty roster '1'."""
    fake.add("juliet")
    gateway.sign_in("juliet@example.com")
    fake.cut_all()
    wait_until(lambda: len(fake.gets("juliet")) == 2, what="second get")
    assert [get.ver for get in fake.gets("juliet")] == ["", ""]
