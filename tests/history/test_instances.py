"""The checker on stories with several instances on one Redis: what holds always, what only while Redis
is well. Each rule has a story that is caught and one that is allowed."""
import pytest

from checker import Checker
from health import GRACE
from story import Story, item, random_story

C1, C2 = "c1.ua@peer.test", "c2.ua@peer.test"
BOTH = ("g1.0", "g2.0")
REDIS = ["redis-kill", "redis-flush", "redis-roll-back", "redis-pause"]


def kinds(records):
    return {violation["kind"] for violation in Checker(records).check()}


def begun(faults=None):
    """Two instances, a stream on each, one item."""
    story = Story()
    if faults is not None:
        story.records[0]["faults"] = faults
    story.ask("g2.0").connect("ua.s2", "ua")
    story.ask("g1.0").connect("ua.s1", "ua")
    story.put("ua", C1, "ua.w.1", ["Friends"])
    return story


def ended(story, instances=BOTH):
    return kinds(story.end(instances=instances))


@pytest.mark.parametrize("seed", range(25))
def test_instances__right_history__silent(seed):
    story = random_story(seed, instances=BOTH)
    assert Checker(story.end(instances=BOTH)).check() == []


# --- recency across instances -----------------------------------------------------------------------
def stale_at_the_other(story):
    """A write answered by one instance; the other one then still gives what was before."""
    version, items = story.version("ua"), dict(story.gateway["ua"])
    seq = story.drop("ua.s2")
    story.ask("g1.0").put("ua", C1, "ua.w.2")
    story.ask("g2.0").get("ua", items, version)
    story.connect("ua.s2", "ua", seq)
    return story


def test_read__write_at_the_other_instance_not_shown__caught():
    assert "stale-read" in ended(stale_at_the_other(begun()))


@pytest.mark.parametrize("fault", REDIS)
def test_read__write_at_the_other_instance_not_shown_while_redis_is_away__allowed(fault):
    story = begun()
    story.fault(fault)
    stale_at_the_other(story).healed(wait=GRACE + 1)
    assert ended(story) == set()


def test_read__write_at_the_other_instance_not_shown_just_after_redis_is_back__allowed():
    story = begun()
    story.fault("redis-kill")
    story.healed(wait=GRACE / 2)
    assert ended(stale_at_the_other(story)) == set()


def test_read__write_at_the_other_instance_not_shown_long_after_redis_is_back__caught():
    story = begun()
    story.fault("redis-kill")
    story.healed(wait=GRACE + 1)
    assert "stale-read" in ended(stale_at_the_other(story))


def test_read__write_while_redis_was_away_not_shown_long_after__caught():
    story = begun()
    version, items = story.version("ua"), dict(story.gateway["ua"])
    story.fault("redis-kill")
    story.ask("g1.0").put("ua", C1, "ua.w.2")
    story.healed(wait=GRACE + 1)
    story.ask("g2.0").get("ua", items, version)
    assert "stale-read" in ended(story)


def test_read__own_write_not_shown_at_the_same_instance_while_redis_is_away__caught():
    story = begun()
    version, items = story.version("ua"), dict(story.gateway["ua"])
    story.fault("redis-kill")
    story.ask("g1.0").put("ua", C1, "ua.w.2")
    story.get("ua", items, version)
    assert "stale-read" in ended(story)


def test_read__what_a_stream_of_the_other_instance_showed__caught_allowed():
    for fault, expected in ((None, {"stale-read"}), ("redis-pause", set())):
        story = begun()
        version, items = story.version("ua"), dict(story.gateway["ua"])
        if fault:
            story.fault(fault)
        seq = story.drop("ua.s2")
        story.xset("ua", C1, item(C1, "ua.x.1"))
        story.ask("g2.0").get("ua", items, version)
        story.connect("ua.s2", "ua", seq)
        assert ended(story) == expected


def test_resume__at_the_other_instance_behind_a_write__caught_allowed():
    for fault, expected in ((None, {"stale-read"}), ("redis-flush", set())):
        story = begun()
        version, items = story.version("ua"), dict(story.gateway["ua"])
        if fault:
            story.fault(fault)
        story.drop("ua.s2")
        story.put("ua", C1, "ua.w.2")
        story.add("conn", u="ua", c="ua.s2", g="g2.0", t=story.tick(), status=200, **{"from": version})
        story.add("ev", u="ua", c="ua.s2", g="g2.0", t=story.tick(), ev="sync", id=version,
                  data={"version": version})
        story.streams["ua.s2"] = ["ua", story.seq["ua"]]
        story.event("ua.s2", story.seq["ua"], C1, story.gateway["ua"][C1])
        assert items and ended(story) == expected


# --- never relaxed ----------------------------------------------------------------------------------
def test_writes__lost_while_redis_is_away__caught():
    story = begun()
    story.fault("redis-kill")
    story.put("ua", C1, "ua.w.2", stored=False, shown=False)
    assert "lost-write" in ended(story)


def test_writes__early_answer_while_redis_is_away__caught():
    story = begun()
    story.fault("redis-kill")
    story.put("ua", C1, "ua.w.2", shown=False, early=2.0)
    story.change("ua", C1, story.server["ua"][C1])
    assert "early-answer" in ended(story)


def test_versions__two_rosters_at_two_instances__caught():
    story = begun()
    story.fault("redis-kill")
    story.ask("g1.0").get("ua")
    story.ask("g2.0").get("ua", {C1: item(C1, None)})
    assert "id-reused" in ended(story)


def test_versions__two_changes_at_two_instances__caught():
    story = begun()
    story.fault("redis-roll-back")
    story.put("ua", C1, "ua.w.2", drop_for=("ua.s2",))
    story.event("ua.s2", story.seq["ua"], C2, None)
    assert "id-reused" in ended(story)


def test_versions__own_marks_at_two_instances__allowed():
    """On their own, two instances number different states alike, each under its own mark; what comes
    together again begins with a `roster`."""
    story = begun()
    story.fault("redis-kill")
    story.new_writer("ua", "ua1")
    story.put("ua", C1, "ua.w.2", drop_for=("ua.s2",))
    at, old = story.seq["ua"], story.gateway["ua"][C1]
    story.xset("ua", C2, item(C2, "ua.x.1"), shown=False)
    data = {"version": f"e.ua2-{at}", "item": item(C2, "ua.x.1")}
    story.add("ev", u="ua", c="ua.s2", g="g2.0", t=story.tick(), ev="roster.set", id=data["version"], data=data)
    story.change("ua", C2, item(C2, "ua.x.1"), drop_for=("ua.s2",))
    story.snapshot("ua.s2")
    assert old and ended(story) == set()


def test_versions__change_under_a_new_mark_leads_elsewhere__caught():
    story = begun()
    story.get("ua")
    story.new_writer("ua", "ua1")
    story.put("ua", C2, "ua.w.2")
    story.get("ua", {C2: story.gateway["ua"][C2]})
    assert "snapshot-differs" in ended(story)


def test_versions__one_mark_behind_two_rosters__caught():
    """Two instances went on from two states, yet say that they reached the same one."""
    story = begun()
    story.fault("redis-kill")
    story.ask("g1.0").get("ua")
    story.ask("g2.0").get("ua", {}, "e.ua2-1")
    story.new_writer("ua", "ua1")
    story.xset("ua", C2, item(C2, "ua.x.1"))
    story.op("ua", "changes", story.tick(), 200, since="e.ua2-1", ver=story.version("ua"), more=False,
             changes=[{"version": story.version("ua"), "op": "set", "item": item(C2, "ua.x.1")}])
    assert "id-reused" in ended(story)


@pytest.mark.parametrize("spoil, expected", [
    (lambda story: setattr(story, "seq", {**story.seq, "ua": story.seq["ua"] + 1}), {"gap"}),
    (lambda story: None, set())])
def test_stream__hole_where_the_writer_changes__caught_allowed(spoil, expected):
    story = begun()
    story.fault("redis-kill")
    story.new_writer("ua", "ua1")
    spoil(story)
    story.put("ua", C1, "ua.w.2")
    assert ended(story) == expected


def test_stream__from_one_journal_into_another_without_roster__caught():
    story = begun()
    story.put("ua", C1, "ua.w.2")
    for record in story.records[-4:]:
        if record["k"] == "ev":
            record["id"] = record["data"]["version"] = "f" + record["id"]
    assert "gap" in ended(story)


@pytest.mark.parametrize("fault", [None, "redis-kill"])
def test_stream__version_goes_back_at_the_other_instance__caught(fault):
    story = begun()
    story.put("ua", C1, "ua.w.2")
    if fault:
        story.fault(fault)
    story.drop("ua.s1")
    story.ask("g2.0").connect("ua.s1", "ua", story.seq["ua"])
    story.event("ua.s1", 1, C1, item(C1, "ua.w.1", ["Friends"]))
    assert "version-back" in ended(story)


def test_stream__older_roster_in_the_middle__caught_allowed():
    for fault, expected in ((None, "went-back"), ("redis-flush", None)):
        story = begun()
        items = dict(story.gateway["ua"])
        story.put("ua", C1, "ua.w.2")
        if fault:
            story.fault(fault)
        story.snapshot("ua.s1", items, "e.ua9-7")
        story.snapshot("ua.s1")
        assert ended(story) == ({expected} if expected else set())


def test_gateway__older_state_by_a_new_writer__caught_allowed():
    for fault, expected in ((None, {"went-back"}), ("redis-roll-back", set())):
        story = begun()
        story.put("ua", C1, "ua.w.2")
        story.put("ua", C1, "ua.w.3")
        if fault:
            story.fault(fault)
        story.new_writer("ua", "ua1")
        story.change("ua", C1, item(C1, "ua.w.2"))
        assert ended(story) == expected


def test_isolation__while_redis_is_away__caught():
    story = begun()
    story.fault("redis-roll-back")
    story.ask("g2.0").get("ub", {}, story.version("ua"))
    assert "isolation" in ended(story)


# --- conditions -------------------------------------------------------------------------------------
def two_winners(story):
    seen = {"if_match": story.version("ua")}
    story.ask("g1.0").put("ua", C1, "ua.w.2", cond=seen)
    story.ask("g2.0").put("ua", C1, "ua.w.3", cond=seen)
    return story


def test_conditions__a_winner_at_each_instance__caught_allowed():
    assert "lost-update" in ended(two_winners(begun()))
    story = begun()
    story.fault("redis-kill")
    assert ended(two_winners(story)) == set()


def test_conditions__two_winners_at_one_instance_while_redis_is_away__caught():
    story = begun()
    story.fault("redis-kill")
    seen = {"if_match": story.version("ua")}
    story.put("ua", C1, "ua.w.2", cond=seen)
    story.put("ua", C1, "ua.w.3", cond=seen)
    assert "lost-update" in ended(story)


def test_conditions__refused_at_the_other_instance__caught_allowed():
    """An instance alone may have lost a version that only the other one gave, not one of its own."""
    for fault, alone, expected in ((None, True, {"false-412"}), ("redis-flush", True, set()),
                                   ("redis-flush", False, {"false-412"})):
        story = begun()
        story.drop("ua.s2" if alone else "ua.s1")
        story.put("ua", C2, "ua.w.2")
        story.ask("g1.0" if alone else "g2.0").get("ua")
        given = story.version("ua")
        story.put("ua", C2, "ua.w.3")
        if fault:
            story.fault(fault)
        story.ask("g2.0").put("ua", C1, "ua.w.4", status=412, stored=False, shown=False,
                              cond={"if_match": given})
        story.connect("ua.s2" if alone else "ua.s1", "ua", 1)
        assert ended(story) == expected


# --- what Redis must not be felt by -----------------------------------------------------------------
def test_answers__refused_while_only_redis_is_in_trouble__caught_allowed():
    for faults, expected in ((REDIS, {"unexpected-answer"}), ([*REDIS, "cut"], set())):
        for status in (503, 504):
            story = begun(faults)
            story.fault("redis-kill")
            story.put("ua", C1, "ua.w.2", status=status, stored=False, shown=False)
            assert ended(story) == expected


def test_answers__refused_while_an_account_has_no_owner__allowed():
    story = begun([*REDIS, "gateway-kill"])
    story.kill("g1.0")
    story.ask("g2.0").put("ua", C1, "ua.w.2", status=503, stored=False, shown=False)
    story.connect("ua.s1", "ua")
    assert ended(story, ("g2.0",)) == set()


def test_answers__nothing_cached__caught_allowed():
    """Without Redis and without the XMPP server an instance that never had the roster has none."""
    for fault, warm, expected in (("redis-kill", False, set()), ("redis-kill", True, {"unexpected-answer"}),
                                  (None, False, {"unexpected-answer"})):
        story = begun([*REDIS, "cut"])
        if fault:
            story.fault(fault)
        story.ask("g3.0")
        if warm:
            story.get("ua")
        story.op("ua", "get", story.tick(), 503, hver=None)["code"] = "xmpp-unreachable"
        assert ended(story) == expected


def test_answers__nothing_written_since_redis_lost_it__allowed():
    """Redis is back for long, but no owner has been there to write what it lost."""
    for written, expected in ((False, set()), (True, {"unexpected-answer"})):
        story = begun([*REDIS, "cut"])
        story.fault("redis-flush")
        story.healed(wait=GRACE + 1)
        if written:
            story.put("ua", C1, "ua.w.2")
        story.ask("g3.0").op("ua", "get", story.tick(), 503, hver=None)["code"] = "xmpp-unreachable"
        assert ended(story) == expected


def test_answers__sign_out_told_later__caught_allowed():
    for fault, expected in ((None, {"unexpected-answer"}), ("redis-kill", set())):
        story = begun()
        if fault:
            story.fault(fault)
        story.op("ua", "sign-out", story.tick(), 202, hver=None)
        assert ended(story) == expected


# --- killed instances -------------------------------------------------------------------------------
def lost_request(story, process):
    story.ask(process)
    record = story.op("ua", "put", story.tick(), 500, jid=C1, set={"name": "ua.w.9", "groups": []}, cond=None)
    record.update(status=None, out="unknown", err="ConnectionResetError()", hver=None)


def test_kill__request_without_answer__caught_allowed():
    for process, expected in (("g1.0", set()), ("g2.0", {"no-answer"})):
        story = begun()
        story.kill("g1.0")
        lost_request(story, process)
        story.ask("g2.0").connect("ua.s1", "ua", 1)
        assert ended(story, ("g2.0",)) == expected


def test_kill__request_before_the_next_life_listens__allowed():
    story = begun()
    story.kill("g1.0")
    lost_request(story, "g1.1")
    story.add("up", t=story.tick(), g="g1.1")
    story.ask("g1.1").connect("ua.s1", "ua", 1)
    assert ended(story, ("g1.1", "g2.0")) == set()
    story = begun()
    story.kill("g1.0")
    story.add("up", t=story.tick(), g="g1.1")
    lost_request(story, "g1.1")
    story.ask("g1.1").connect("ua.s1", "ua", 1)
    assert ended(story, ("g1.1", "g2.0")) == {"no-answer"}


def test_kill__stream_ends_without_bye__caught_allowed():
    story = begun()
    story.kill("g1.0")
    story.ask("g2.0").connect("ua.s1", "ua", 1)
    assert ended(story, ("g2.0",)) == set()
    story = begun()
    story.kill("g1.0")
    story.drop("ua.s2", by="server")
    story.ask("g2.0").connect("ua.s1", "ua", 1)
    story.connect("ua.s2", "ua", 1)
    assert ended(story, ("g2.0",)) == {"stream-ended"}


def test_kill__acknowledged_write_not_shown_by_the_survivor__caught():
    story = begun()
    version, items = story.version("ua"), dict(story.gateway["ua"])
    story.put("ua", C1, "ua.w.2")
    story.kill("g1.0")
    story.ask("g2.0").get("ua", items, version)
    story.connect("ua.s1", "ua", 1)
    assert ended(story, ("g2.0",)) == {"stale-read"}


def test_kill__read_behind_the_server_until_taken_over__caught_allowed():
    for wait, expected in ((0, set()), (GRACE + 1, {"stale-read"})):
        story = begun()
        story.kill("g1.0")
        story.tick(wait + 0.01)
        story.xset("ua", C1, item(C1, "ua.x.1"), shown=False)
        story.ask("g2.0").get("ua", fresh=True)
        story.connect("ua.s1", "ua", 1)
        assert ended(story, ("g2.0",)) == expected


# --- the end ----------------------------------------------------------------------------------------
def test_end__two_versions__caught():
    story = begun()
    story.fault("redis-kill")
    records = story.end(instances=BOTH)
    assert kinds(records) == set()
    last = [record for record in records if record.get("final") and record["u"] == "ua"][-1]
    last.update(ver="e.ua2-1", hver="e.ua2-1", etag='"e.ua2-1"')
    assert kinds(records) == {"no-convergence"}


def test_end__one_instance_differs__caught():
    story = begun()
    story.fault("redis-kill")
    records = story.end(instances=BOTH)
    last = [record for record in records if record.get("final") and record["u"] == "ua"][-1]
    last.update(ver="e.ua2-1", hver="e.ua2-1", etag='"e.ua2-1"', items=[])
    assert "no-convergence" in kinds(records)
