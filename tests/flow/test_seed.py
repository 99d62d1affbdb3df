"""The exchanges of the seed document (RFC 6121 section 2), each against real Prosody and against the fake
server. What they look like on the wire stands in test_seed_wire.py."""
import re

from fakes.sites import SEED, item
from fakes.support import wait_until

ROMEO = item("romeo@example.net", "Romeo", ["Friends"], "both")


def seed_items():
    return [item(i["jid"], i["name"], i["groups"], i["subscription"]) for i in SEED]


def test_a_roster_with_items_is_read(site):
    jid, api = site.signed_in(SEED)
    session = api.session
    assert set(session) == {"token", "token_type", "expires_at", "jid", "state", "version"}
    assert (session["jid"], session["state"], session["token_type"]) == (jid, "live", "Bearer")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", session["expires_at"])
    response = api.get("/v1/roster")
    assert response.status == 200
    assert response.header("Content-Type") == "application/json"
    assert response.json() == {"version": session["version"], "items": seed_items()}
    assert response.header("ETag") == f'"{session["version"]}"'
    assert response.version == session["version"]
    assert response.header("Cache-Control") == "private, no-cache"
    again = api.get("/v1/roster", headers={"If-None-Match": response.header("ETag")})
    assert (again.status, again.body) == (304, b"")


def test_an_empty_roster_is_empty_and_not_missing(site):
    _, api = site.signed_in()
    assert api.roster() == {"version": api.session["version"], "items": []}
    assert api.session["version"] is not None


def test_one_item_is_read(site):
    _, api = site.signed_in(SEED)
    response = api.get("/v1/roster/items/romeo@example.net")
    assert response.status == 200
    body = response.json()
    assert body["item"] == ROMEO
    assert set(body) == {"version", "item", "allowed"}
    assert response.header("ETag").strip('"') == api.session["version"]
    missing = api.get("/v1/roster/items/tybalt@example.com")
    assert (missing.status, missing.code) == (404, "item-not-found")


def test_add_is_answered_pushed_and_seen_by_every_resource(site):
    jid, api = site.signed_in(SEED)
    with site.gateway.stream(api) as stream:
        witness = site.witness(jid)
        stream.wait_sync()
        response = api.put_item("nurse@example.com", "Nurse", ["Servants"])
        nurse = item("nurse@example.com", "Nurse", ["Servants"])
        assert response.status == 201
        assert response.header("Location") == "/v1/roster/items/nurse@example.com"
        assert response.json()["item"] == nurse
        event = stream.wait_item("nurse@example.com")
        assert event.json["item"] == nurse
        assert event.id == response.json()["version"] == response.version
        witness.client.pushes.wait_for(lambda iq: "nurse@example.com" in str(iq))
        assert witness.items()["nurse@example.com"] == nurse
        # Read your writes: the version of the answer or a later one.
        assert api.items()["nurse@example.com"] == nurse
        witness.close()


def test_update_is_an_add_and_replaces_name_and_groups(site):
    jid, api = site.signed_in(SEED)
    response = api.put_item("romeo@example.net", "Romeo M.", ["Lovers", "Enemies"])
    assert response.status == 200 and response.header("Location") is None
    wanted = item("romeo@example.net", "Romeo M.", ["Enemies", "Lovers"], "both")
    assert response.json()["item"] == wanted
    # A member left out means none.
    bare = api.put_item("romeo@example.net")
    assert bare.json()["item"] == item("romeo@example.net", None, [], "both")
    witness = site.witness(jid)
    assert witness.items()["romeo@example.net"] == item("romeo@example.net", None, [], "both")
    witness.close()


def test_an_update_that_changes_nothing_keeps_the_version(site):
    _, api = site.signed_in(SEED)
    response = api.put_item("romeo@example.net", "Romeo", ["Friends"])
    assert response.status == 200
    assert response.json() == {"version": api.session["version"], "item": ROMEO}


def test_delete_removes_here_and_there(site):
    jid, api = site.signed_in(SEED)
    with site.gateway.stream(api) as stream:
        stream.wait_sync()
        response = api.delete_item("romeo@example.net")
        assert (response.status, response.body) == (204, b"")
        event = stream.wait_removed("romeo@example.net")
        assert event.json == {"version": event.id, "jid": "romeo@example.net"}
        assert response.version == event.id
    assert "romeo@example.net" not in api.items()
    assert api.get("/v1/roster/items/romeo@example.net").status == 404
    witness = site.witness(jid)
    assert "romeo@example.net" not in witness.items()
    witness.close()
    again = api.delete_item("romeo@example.net")
    assert (again.status, again.code) == (404, "item-not-found")


def test_a_deleted_friend_of_this_server_is_unsubscribed_by_the_server(site):
    """RFC 6121 2.5.2: the server sends unsubscribe and unsubscribed; the friend's item ends as `none`."""
    friend = site.account()
    jid = site.account([{"jid": friend, "name": "Friend", "subscription": "both"}])
    site.set_roster(friend, [{"jid": jid, "subscription": "both"}])
    other = site.witness(friend, available=True)
    api = site.gateway.sign_in(jid)
    assert api.delete_item(friend).status == 204
    wait_until(lambda: other.items()[jid]["subscription"] == "none", what="subscription none")
    other.close()


def test_a_change_made_elsewhere_comes_as_an_event(site):
    jid, api = site.signed_in(SEED)
    with site.gateway.stream(api) as stream:
        first = stream.wait_sync()
        assert [e.name for e in stream.events.all()][:1] == ["roster"]
        witness = site.witness(jid)
        witness.set_item("nurse@example.com", "Nurse", ["Servants"])
        added = stream.wait_item("nurse@example.com", "Nurse")
        witness.set_item("nurse@example.com", "Old nurse", [])
        changed = stream.wait_item("nurse@example.com", "Old nurse")
        witness.remove_item("nurse@example.com")
        removed = stream.wait_removed("nurse@example.com")
        assert len({first.id, added.id, changed.id, removed.id}) == 4
        seqs = [int(e.id.rpartition("-")[2]) for e in (first, added, changed, removed)]
        assert seqs == [seqs[0], seqs[0] + 1, seqs[0] + 2, seqs[0] + 3]
        assert list(stream.roster().values()) == sorted(witness.items().values(),
                                                        key=lambda i: i["jid"])
        assert api.roster() == {"version": removed.id, "items": seed_items()}
        witness.close()


def test_names_and_groups_come_back_as_they_went_in(site):
    """Strings are taken as they are: no trimming, no normalisation (API 1)."""
    jid, api = site.signed_in()
    name = "  \u00c4 A\u0308 <b>&amp;\"'\u2028 \U0001f469\u200d\U0001f680  "
    groups = ["  spaced  ", "<g>&'\"", "\u212b"]
    response = api.put_item("nurse@example.com", name, groups)
    assert response.status == 201, response
    wanted = item("nurse@example.com", name, groups)
    assert response.json()["item"] == wanted
    assert response.json()["item"]["groups"] == sorted(groups)
    witness = site.witness(jid)
    assert witness.items()["nurse@example.com"]["name"] == name
    witness.close()


def test_a_transport_without_local_part_is_a_valid_item(site):
    _, api = site.signed_in()
    assert api.put_item("icq.example.com", "ICQ").status == 201
    assert api.items() == {"icq.example.com": item("icq.example.com", "ICQ")}
    assert api.delete_item("icq.example.com").status == 204


def test_jids_in_paths_are_prepared(site):
    """nodeprep, nameprep: case folded; the answer and every later read know the prepared form only."""
    _, api = site.signed_in()
    response = api.put("/v1/roster/items/NURSE%40Example.COM", {"name": "Nurse"})
    assert response.status == 201
    assert response.json()["item"]["jid"] == "nurse@example.com"
    assert response.header("Location") == "/v1/roster/items/nurse@example.com"
    assert api.get("/v1/roster/items/Nurse@EXAMPLE.com").json()["item"]["name"] == "Nurse"
    assert api.put("/v1/roster/items/nurse@example.com", {"name": "Nurse"}).status == 200


def test_the_own_jid_is_no_contact(site):
    jid, api = site.signed_in(SEED)
    response = api.put_item(jid.upper().replace("EXAMPLE.COM", "example.com"), "Me")
    assert (response.status, response.code) == (403, "self-contact")
    assert len(api.items()) == 3
