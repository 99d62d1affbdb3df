"""Rules R21 to R38: roster sets, and what is refused before one is sent (RFC 6121 2.1.5, 2.3, 2.4). What
other files hold of them is named in tests/RULES.md."""
import pytest

from fakes import misbehaviour
from fakes.roster_model import Item
from fakes.sites import item
from fakes.support import wait_until

ROMEO = Item("romeo@example.net", "Romeo", ["Friends", "Old"], "both")


@pytest.fixture(scope="module")
def refusing(fake_site):
    """(name, client) of one account for all that must not reach the server."""
    jid, api = fake_site.signed_in([{"jid": "romeo@example.net", "name": "Romeo"}])
    return jid.partition("@")[0], api


@pytest.fixture
def juliet(fake, gateway):
    fake.add("juliet", items=[ROMEO])
    return gateway.sign_in("juliet@example.com")


@pytest.mark.parametrize("rule,body,member", [
    ("R25", {"groups": ["a", "b", "a"]}, "groups"),
    ("R25", {"groups": ["\u00c5", "\u212b"]}, "groups"),
    ("R25", {"groups": ["\uff21", "A"]}, "groups"),
    ("R26", {"groups": [""]}, "groups"),
    ("R26", {"groups": ["a", ""]}, "groups"),
    ("R37", {"name": "a\u0001b"}, "name"), ("R37", {"name": "a\ufffe"}, "name"),
    ("R37", {"groups": ["\u001f"]}, "groups"), ("R37", {"name": "a\nb"}, "name"),
    ("R38", {"name": "\u00e9" * 512}, "name"), ("R38", {"groups": ["g" * 1024]}, "groups"),
    ("R38", {"groups": [str(n) for n in range(101)]}, "groups")])
def test_r25_r26_r37_r38_refused_before_the_wire(fake_site, refusing, rule, body, member):
    """R25: equal groups, also after resourceprep (the comparison RFC 6121 2.3.3 names as one possible); R26:
    no empty group; R37 (XML 1.0 2.2, Char): what XML cannot carry, and white space that an attribute does
    not keep (XML 1.0 3.3.3); R38 (RFC 6121 2.3.3 leaves lengths to the server): limits in bytes."""
    name, api = refusing
    response = api.put_item("nurse@example.com", body.get("name"), body.get("groups"))
    assert (response.status, response.code) == (422, "invalid-item"), rule
    assert member in response.json()["detail"]
    assert fake_site.server.sets(name) == []


def test_r27_a_full_jid_is_refused(fake_site, refusing):
    """R27: contacts are bare JIDs; servers differ (Prosody refuses, ejabberd stores)."""
    name, api = refusing
    response = api.put("/v1/roster/items/nurse@example.com%2Fhome", {"name": "N"})
    assert (response.status, response.code) == (422, "invalid-jid")
    assert fake_site.server.sets(name) == []


def test_r28_a_patch_sends_the_whole_item(fake, juliet):
    """R28: RFC 6121 2.4.1 has a set replace name and all groups."""
    assert juliet.patch("/v1/roster/items/romeo@example.net", {"name": "R"}).status == 200
    [sent] = fake.sets("juliet")[0].items
    assert sent.get("name") == "R"
    assert sorted(group.text for group in sent) == ["Friends", "Old"]


def test_r29_a_patch_after_an_unknown_outcome_is_merged_with_the_truth(fake, make_gateway):
    """R29, R32: the write before it was not answered; the roster is read again before the patch is made."""
    gateway = make_gateway(fake, xmpp={"iq_timeout": "3s"})
    fake.add("juliet", items=[ROMEO])
    api = gateway.sign_in("juliet@example.com")

    def stored_but_silent(session, element):
        fake.accounts["juliet"].set_by_client(ROMEO.jid, "By the lost write", ["Kept"])
        return True
    fake.hook("roster_set", stored_but_silent, times=1)
    assert api.put_item(ROMEO.jid, "By the lost write", ["Kept"]).code == "outcome-unknown"
    patched = wait_until(lambda: (lambda r: r.status == 200 and r)(
        api.patch(f"/v1/roster/items/{ROMEO.jid}", {"name": "R"})), 20, "the new session")
    assert patched.json()["item"] == item(ROMEO.jid, "R", ["Kept"], "both")
    kinds = ["set" if r.is_roster_set else "get" for r in fake.stanzas.all()
             if r.is_roster_set or r.is_roster_get]
    assert kinds[:4] == ["get", "set", "get", "set"]


def test_r30_an_empty_name_of_a_server_is_no_name(fake, juliet):
    """R30: Prosody says name='' for none."""
    [id_] = fake.push_raw("juliet", "<item jid='nurse@example.com' name='' subscription='none'/>")
    fake.wait_acknowledged(id_)
    wait_until(lambda: "nurse@example.com" in juliet.items(), what="the push")
    assert juliet.items()["nurse@example.com"] == item("nurse@example.com")


def test_r35_the_own_jid_never_reaches_the_server(fake_site, refusing):
    """R35: 403 self-contact, in any spelling."""
    name, api = refusing
    for jid in (f"{name}@example.com", f"{name.upper()}@Example.COM"):
        response = api.put_item(jid, "Me")
        assert (response.status, response.code) == (403, "self-contact")
    assert fake_site.server.sets(name) == []


@pytest.mark.parametrize("condition,kind,status", [
    ("forbidden", "auth", 403), ("bad-request", "modify", 400), ("not-acceptable", "modify", 422)])
def test_r36_errors_of_a_set_are_told(fake, juliet, condition, kind, status):
    """R36: RFC 6121 2.3.3 (M for the lengths: not-acceptable is the server's word for them). The whole table:
    test_writes.py."""
    fake.hook("roster_set", misbehaviour.error(condition, kind), times=1)
    response = juliet.put_item("nurse@example.com", "N")
    assert (response.status, response.code) == (status, condition)
    assert response.json()["xmpp"]["condition"] == condition
    assert set(juliet.items()) == {ROMEO.jid}


def test_r37_everything_is_escaped(fake, juliet):
    """R37: XML 1.0 2.4; the server reads what the caller wrote, in attributes and in text."""
    text = "<&>\"' ]]> &amp; &#10; <!-- -->"
    assert juliet.put_item("nurse@example.com", text, [text]).status == 201
    [sent] = fake.sets("juliet")[0].items
    assert sent.get("name") == text and [group.text for group in sent] == [text]
    assert len(fake.parse_errors) == 0


def test_r37_a_name_of_the_server_that_cannot_be_sent_back(fake, juliet):
    """R37: a server may hold a name with a line break (as a character reference). It is shown; a patch that
    would have to send it back is refused before the wire, one that replaces it works."""
    [id_] = fake.push_raw("juliet", "<item jid='odd@example.com' name='a&#10;b&#9;c&#13;d'/>")
    fake.wait_acknowledged(id_)
    wait_until(lambda: "odd@example.com" in juliet.items(), what="the push")
    assert juliet.items()["odd@example.com"]["name"] == "a\nb\tc\rd"
    path = "/v1/roster/items/odd@example.com"
    refused = juliet.patch(path, {"groups": ["g"]})
    assert (refused.status, refused.code) == (422, "invalid-item")
    assert fake.sets("juliet") == []
    assert juliet.patch(path, {"name": "plain"}).status == 200
    assert len(fake.signed_in) == 1


def test_r38_the_limits_are_configured(fake, make_gateway):
    """R38: in bytes of UTF-8; a server that wants less says not-acceptable (R36)."""
    gateway = make_gateway(fake, limits={"name_bytes": 4, "group_bytes": 3, "groups": 2})
    fake.add("juliet")
    api = gateway.sign_in("juliet@example.com")
    for name, groups in (("12345", []), ("\u00e9\u00e9x", []), ("1", ["1234"]), ("1", ["a", "b", "c"])):
        assert api.put_item("nurse@example.com", name, groups).code == "invalid-item", (name, groups)
    assert api.put_item("nurse@example.com", "\u00e9\u00e9", ["123", "b"]).status == 201
