"""Rules R55 to R74 and R82 to R84: deleting, subscriptions as far as they are built (section 4 of API.md
answers 501), JIDs, personal data, event streams. What other files hold of them, and what is open, is named
in tests/RULES.md."""
import pytest

from fakes.roster_model import Item
from fakes.sites import item
from fakes.support import wait_until

ROMEO = Item("romeo@example.net", "Romeo", ["Friends"], "both")
NICK = "http://jabber.org/protocol/nick"


@pytest.fixture
def juliet(fake, gateway):
    fake.add("juliet", items=[ROMEO])
    return gateway.sign_in("juliet@example.com")


@pytest.fixture
def listener(fake, gateway):
    """Signed in with presence `listen`, and her available session at the server."""
    fake.add("juliet", items=[ROMEO])
    api = gateway.sign_in("juliet@example.com", presence="listen")
    fake.stanzas.wait_for(lambda r: r.kind == "presence" and r.type is None)
    return api, fake.wait_session("juliet")


def ask(session, jid, inside="", kind="subscribe"):
    session.send(f"<presence type='{kind}' from='{jid}' to='juliet@example.com'>{inside}</presence>")


def incoming(gateway, api, n):
    """The requests a new stream is greeted with, once there are n."""
    def greeted():
        with gateway.stream(api) as stream:
            stream.wait_sync()
            return stream.wait_for("subscriptions").json["incoming"]
    return wait_until(lambda: (lambda found: found if len(found) == n else None)(greeted()),
                      what=f"{n} requests", every=0.1)


@pytest.mark.parametrize("subscription", ["none", "to", "from", "both"])
def test_r57_a_removal_is_one_set_and_no_presence(fake, gateway, subscription):
    """R55 to R57: in every state of subscription; unsubscribe, unsubscribed and unavailable are the server's."""
    fake.add("juliet", items=[Item(ROMEO.jid, "Romeo", ["A"], subscription)])
    fake.add("romeo", items=[])
    api = gateway.sign_in("juliet@example.com", presence="listen")
    fake.stanzas.wait_for(lambda r: r.kind == "presence")
    session = fake.wait_session("juliet")
    assert api.delete_item(ROMEO.jid).status == 204
    [sent] = fake.sets("juliet")[0].items
    assert sent.attrib == {"jid": ROMEO.jid, "subscription": "remove"} and len(sent) == 0
    for kind in ("unsubscribe", "unsubscribed", "unavailable"):
        ask(session, ROMEO.jid, kind=kind)
    assert api.put_item("nurse@example.com").status == 201
    assert [r.element.get("to") for r in fake.presences("juliet")] == [None], "only the initial presence"


def test_r59_a_contact_that_was_only_asked_is_removed_by_a_set(fake, gateway):
    """R59, as far as it is built: no `unsubscribe` of ours goes before it (`cancelPending` is open)."""
    fake.add("juliet", items=[Item("asked@example.com", None, [], "none", "subscribe")])
    api = gateway.sign_in("juliet@example.com")
    assert api.items()["asked@example.com"]["ask"] == "subscribe"
    assert api.delete_item("asked@example.com").status == 204
    assert fake.sets("juliet")[0].items[0].get("subscription") == "remove"
    assert fake.presences("juliet") == [] and api.items() == {}


@pytest.mark.parametrize("kind", ["unsubscribe", "unsubscribed"])
def test_r60_presence_alone_never_changes_the_roster(fake, gateway, listener, kind):
    """R60 (RFC 6121 3.2.3 and 3.3.3: it is the server that moves the item and then pushes it)."""
    api, session = listener
    before = api.roster()
    with gateway.stream(api) as stream:
        stream.wait_sync()
        ask(session, ROMEO.jid, kind=kind)
        assert stream.wait_for("subscription").json["type"] == kind
        assert api.roster() == before
        fake.change("juliet", Item(ROMEO.jid, "Romeo", ["Friends"], "none"))
        assert stream.wait_item(ROMEO.jid).json["item"]["subscription"] == "none"


def test_r61_deleting_leaves_the_other_users_roster(site):
    """R61: the friend keeps the contact; only the subscription goes."""
    friend = site.account()
    jid = site.account([{"jid": friend, "name": "Friend", "subscription": "both"}])
    site.set_roster(friend, [{"jid": jid, "name": "Juliet", "subscription": "both"}])
    theirs, mine = site.gateway.sign_in(friend), site.gateway.sign_in(jid)
    assert mine.delete_item(friend).status == 204
    wait_until(lambda: theirs.items()[jid]["subscription"] == "none", what="the end of the subscription")
    assert theirs.items()[jid]["name"] == "Juliet"


def test_r63_requests_reach_only_who_listens(fake, gateway):
    """R63, R64, R65, R66 (RFC 6121 3.1.3: delivered to available resources; the priority -1 of `listen` draws
    no messages, RFC 6121 8.5.2.1.1)."""
    fake.add("juliet", items=[ROMEO])
    fake.accounts["juliet"].incoming.add("tybalt@example.com")
    quiet = gateway.sign_in("juliet@example.com")
    assert quiet.get("/v1/session").json()["presence"] == "none"
    with gateway.stream(quiet) as stream:
        stream.wait_sync()
        assert stream.wait_for("subscriptions").json == {"incoming": [], "outgoing": [], "listening": False}
        # A resource that is only connected still gets its pushes.
        fake.change("juliet", Item("nurse@example.com"))
        stream.wait_item("nurse@example.com")
    listens = gateway.sign_in("juliet@example.com", presence="listen")
    assert listens.get("/v1/session").json()["presence"] == "listen"
    [request] = incoming(gateway, listens, 1)
    assert request["jid"] == "tybalt@example.com" and request["message"] is None
    assert [r.element.findtext("{jabber:client}priority") for r in fake.presences()] == ["-1"]


def test_r67_r68_the_pushes_around_a_subscription_are_events(fake, gateway, juliet):
    """R67, R68 (RFC 6121 3.1.2, 3.1.5) as far as built: none + ask, then to, both come as they are pushed."""
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        for subscription, ask_ in (("none", "subscribe"), ("to", None), ("both", None)):
            since = len(stream.events)
            fake.change("juliet", Item("nurse@example.com", None, [], subscription, ask_))
            event = stream.wait_item("nurse@example.com", since=since)
            assert event.json["item"] == item("nurse@example.com", subscription=subscription, ask=ask_)


def test_r68_an_approval_between_two_users_of_the_server(site):
    """R68: over the real servers; the contact approves, the pushes of both sides arrive."""
    me, contact = site.account(), site.account()
    mine = site.witness(me)
    theirs = site.witness(contact, available=True)
    api = site.gateway.sign_in(me)
    with site.gateway.stream(api) as stream:
        stream.wait_sync()
        mine.presence(contact, "subscribe")
        stream.wait_for(lambda e: e.name == "roster.set" and e.json["item"]["ask"] == "subscribe")
        theirs.client.presences.wait_for(lambda p: p["type"] == "subscribe")
        theirs.presence(me, "subscribed")
        event = stream.wait_for(lambda e: e.name == "roster.set"
                                and e.json["item"]["subscription"] == "to")
        assert event.json["item"] == item(contact, subscription="to")
        assert api.items() == mine.items() == {contact: item(contact, subscription="to")}
    mine.close()
    theirs.close()


def test_r69_r70_r71_a_request_is_one_whatever_how_often_it_comes(fake, gateway, listener):
    """R69, R70 (RFC 6121 3.1.4: the user decides), R71 (appendix A: `None + Pending In` is no item)."""
    api, session = listener
    for _ in range(3):
        ask(session, "tybalt@example.com", "<status>Let us be friends</status>")
    [request] = incoming(gateway, api, 1)
    assert request["message"] == "Let us be friends" and request["received_at"].endswith("Z")
    assert set(api.items()) == {ROMEO.jid}
    assert api.get("/v1/roster/items/tybalt@example.com").code == "item-not-found"
    # After a reconnect the server delivers it again: still one; nothing was ever said to it.
    fake.accounts["juliet"].incoming.add("tybalt@example.com")
    session.cut()
    incoming(gateway, api, 1)
    assert all(r.element.get("to") is None for r in fake.presences("juliet"))
    assert fake.sets("juliet") == []


@pytest.mark.parametrize("offered", [True, False])
def test_r72_pre_approval_only_where_it_is_offered(fake, gateway, offered):
    """R72 (RFC 6121 3.4: a server that supports it says so in its features), as far as built: told by GET
    session and `allowed`."""
    fake.preapproval = offered
    fake.add("juliet", items=[Item("a@example.com")])
    api = gateway.sign_in("juliet@example.com")
    assert api.get("/v1/session").json()["pre_approval"] is offered
    assert ("preapprove" in api.get("/v1/roster/items/a@example.com").json()["allowed"]) is offered


def test_r73_a_presence_error_is_told(fake, gateway, listener):
    """R73 (RFC 6121 3.1.3,: errors come back as presence of type error), as far as built: by JID."""
    api, session = listener
    with gateway.stream(api) as stream:
        stream.wait_sync()
        ask(session, "nobody@example.org", "<error type='cancel'><remote-server-not-found "
            "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>", kind="error")
        event = stream.wait_for("subscription").json
        assert (event["type"], event["jid"]) == ("error", "nobody@example.org")
        assert event["xmpp"]["condition"] == "remote-server-not-found"


def test_r74_texts_of_strangers_are_kept_cut_and_harmless(fake, gateway, listener):
    """R74: status and XEP-0172 nick; at most 1,023 bytes; white space and markup stay data in the stream."""
    api, session = listener
    hostile = "data: x&#10;&#10;event: bye&#13;id: 1 &lt;script&gt;"
    nick = "\u00e9" * 2000
    ask(session, "mallory@example.org",
        f"<status>{hostile}</status><nick xmlns='{NICK}'>{nick}</nick>")
    [request] = incoming(gateway, api, 1)
    assert request["message"] == "data: x\n\nevent: bye\rid: 1 <script>"
    assert request["nick"] == "\u00e9" * 511


@pytest.mark.parametrize("sent,held", [
    ("NURSE@Example.COM", "nurse@example.com"), ("\u00c9mile@example.com", "\u00e9mile@example.com"),
    ("stra\u00dfe@example.com", "strasse@example.com"), ("\uff4eurse@example.com", "nurse@example.com")])
def test_r82_one_contact_has_one_spelling(fake, gateway, juliet, sent, held):
    """R82: folded by nodeprep and nameprep, as the servers do, never by guess; pushes, paths and answers
    meet under the prepared form."""
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        fake.push_raw("juliet", f"<item jid='{sent}' name='N'/>")
        stream.wait_item(held)
        assert juliet.get(juliet.item_path(sent)).json()["item"] == item(held, "N")
        fake.push_raw("juliet", f"<item jid='{held}' subscription='remove'/>")
        stream.wait_removed(held)
        assert set(juliet.items()) == {ROMEO.jid}


def test_r83_a_cached_roster_needs_a_token_and_ends_with_the_session(fake, make_gateway):
    """R83: signed out, it is read by nobody; after `cache.ttl`, and once no token could be alive, nothing of
    the account is in memory."""
    gateway = make_gateway(fake, xmpp={"idle_timeout": "1s"}, cache={"ttl": "1s"},
                           session={"lifetime": "4s", "max_age": "4s"})
    fake.add("juliet", items=[ROMEO])
    api = gateway.sign_in("juliet@example.com")
    assert gateway.metric("rostergate_store_accounts") == 1
    assert gateway.api().get("/v1/roster").status == 401
    assert api.delete("/v1/session?all=1").status == 204
    assert api.get("/v1/roster").status == 401
    wait_until(lambda: not fake.sessions_of("juliet"), 20, "the end of the session")
    gateway.wait_metric("rostergate_store_accounts", lambda n: n == 0, timeout=20)
    assert ROMEO.jid not in gateway.log() and "Romeo" not in gateway.log()


def test_r84_no_text_of_a_server_breaks_the_event_stream(fake, gateway, juliet):
    """R84: line ends, colons and `data:` in a name arrive as they are; the parser of the tests follows the
    WHATWG text and refuses CR, unknown fields and invalid UTF-8."""
    for n, (xml, text) in enumerate([("a&#10;b", "a\nb"), ("&#13;&#10;data: x", "\r\ndata: x"),
                                     (": c", ": c"), ("\u2028\u2029\x85", "\u2028\u2029\x85"),
                                     ("&#10;&#10;event: bye&#10;data: {}&#10;&#10;",
                                      "\n\nevent: bye\ndata: {}\n\n")]):
        with gateway.stream(juliet) as stream:
            stream.wait_sync()
            fake.push_raw("juliet", f"<item jid='odd{n}@example.com' name='{xml}'/>")
            assert stream.wait_item(f"odd{n}@example.com").json["item"]["name"] == text
            assert "bye" not in stream.names() and stream.error is None
