"""The checker finds what it must find, and is silent about what is right. One test per rule; the five
planted kinds (dropped event, stale cache, swapped users, reused id, early 2xx) also in long random
histories."""
import glob
import os
import subprocess

import pytest

from checker import Checker
from story import Story, item, random_story

C1, C2 = "c1.ua@peer.test", "c2.ua@peer.test"


def kinds(records):
    return {violation["kind"] for violation in Checker(records).check()}


def begun():
    """A story with one stream and one item."""
    story = Story()
    story.connect("ua.s1", "ua")
    story.put("ua", C1, "ua.w.1", ["Friends"])
    return story


@pytest.mark.parametrize("seed", range(25))
def test_checker__right_history__silent(seed):
    assert Checker(random_story(seed).end()).check() == []


def spoil_dropped_event(story):
    story.put("ua", C1, "ua.w.planted", drop_for=("ua.s1",))
    story.put("ua", C2, "ua.w.planted2")


def spoil_dropped_last_event(story):
    story.put("ua", C1, "ua.w.planted", drop_for=("ua.s1",))


def spoil_stale_cache(story):
    story.put("ua", C1, "ua.w.before")
    version, items = story.version("ua"), dict(story.gateway["ua"])
    story.put("ua", C1, "ua.w.planted")
    story.get("ua", items, version)


def spoil_swapped_users(story):
    jid = "c3.ub@peer.test"
    story.put("ub", jid, "ub.w.planted")
    story.add("ev", u="ua", c="ua.s1", t=story.tick(), ev="roster.set", id=story.version("ua"),
              data={"version": story.version("ua"), "item": item(jid, "ub.w.planted")})


def spoil_reused_id(story):
    story.put("ua", C1, "ua.w.planted", drop_for=("ua.s2",))
    if "ua.s2" not in story.streams:
        story.connect("ua.s2", "ua")
    story.event("ua.s2", story.seq["ua"], C2, None)


def spoil_early_answer(story):
    story.put("ua", C1, "ua.w.planted", shown=False, early=2.0)
    story.change("ua", C1, story.server["ua"][C1])


def spoil_early_answer_then_cut(story):
    story.put("ua", C1, "ua.w.planted", stored=False, shown=False)


PLANTED = {
    "dropped event": (spoil_dropped_event, "gap"),
    "dropped last event": (spoil_dropped_last_event, "no-convergence"),
    "stale cache": (spoil_stale_cache, "stale-read"),
    "swapped users": (spoil_swapped_users, "isolation"),
    "reused id": (spoil_reused_id, "id-reused"),
    "early 2xx": (spoil_early_answer, "early-answer"),
    "early 2xx, then a cut": (spoil_early_answer_then_cut, "lost-write"),
}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", PLANTED)
def test_checker__planted_bug__caught(name, seed):
    spoil, expected = PLANTED[name]
    story = random_story(seed, 200)
    for client in ("ua.s1", "ua.s2"):
        if client not in story.streams:
            story.connect(client, "ua")
    spoil(story)
    assert expected in kinds(story.end())


def test_writes__early_answer__read_before_it_is_stale():
    story = begun()
    story.put("ua", C1, "ua.w.2", shown=False)
    story.get("ua")
    assert "stale-read" in kinds(story.end())


def test_writes__wrong_item_in_answer__caught():
    story = begun()
    story.put("ua", C1, "ua.w.2")
    story.records[-1]["item"] = item(C1, "ua.w.1", ["Friends"])
    assert "wrong-answer" in kinds(story.end())


def test_writes__refused_but_done__caught():
    story = begun()
    story.put("ua", C1, "ua.w.2", status=412)
    assert "refused-but-done" in kinds(story.end())


def test_writes__unknown_outcome__in_or_out_is_fine():
    for stored in (True, False):
        story = begun()
        story.put("ua", C1, "ua.w.2", status=504, stored=stored, shown=stored)
        assert kinds(story.end()) == set()


def test_writes__unknown_outcome__half_in_is_caught():
    story = begun()
    story.put("ua", C1, "ua.w.2", ["ua.w.2"], status=504, stored=False, shown=False)
    story.store("ua", C1, item(C1, "ua.w.2", ["Friends"]))
    assert "invented" in kinds(story.end())


def test_writes__delete_acknowledged_not_done__caught():
    story = begun()
    story.delete("ua", C1, stored=False, shown=False)
    story.tick(3)
    assert "lost-write" in kinds(story.end())


def test_writes__sent_twice__caught():
    story = begun()
    story.xset("ua", C1, item(C1, "ua.x.1"))
    story.store("ua", C1, item(C1, "ua.w.1", ["Friends"]))
    story.change("ua", C1, story.server["ua"][C1])
    assert "written-twice" in kinds(story.end())


def test_server__removed_by_the_slower_of_two__silent():
    """A DELETE that began first but ended last (504) did it (found as a false alarm)."""
    story = begun()
    start = story.tick()
    story.store("ua", C1, None)
    story.change("ua", C1, None)
    story.delete("ua", C1, status=404, stored=False, shown=False)
    story.op("ua", "delete", start, 504, jid=C1)
    assert kinds(story.end()) == set()


def test_server__state_nobody_wrote__caught():
    story = begun()
    story.store("ua", C1, item(C1, "ua.w.99"))
    assert "invented" in kinds(story.end())


def test_gateway__state_the_server_never_had__caught():
    story = begun()
    story.change("ua", C2, item(C2, "ua.w.1"))
    assert "invented" in kinds(story.end())


def test_gateway__older_state_after_newer__caught():
    story = begun()
    story.put("ua", C1, "ua.w.2")
    story.change("ua", C1, item(C1, "ua.w.1", ["Friends"]))
    assert "went-back" in kinds(story.end())


def test_gateway__change_that_changes_nothing__caught():
    story = begun()
    story.seq["ua"] += 1
    story.event("ua.s1", story.seq["ua"], C1, story.gateway["ua"][C1])
    assert "empty-change" in kinds(story.end())


def test_gateway__shown_before_the_server_had_it__caught():
    story = begun()
    story.change("ua", C1, item(C1, "ua.w.2"))
    story.tick(3)
    story.put("ua", C1, "ua.w.2", shown=False)
    assert "early" in kinds(story.end())


def test_stream__version_goes_back__caught():
    story = begun()
    story.put("ua", C1, "ua.w.2")
    story.event("ua.s1", 1, C1, item(C1, "ua.w.1", ["Friends"]))
    assert "version-back" in kinds(story.end())


def test_stream__id_repeated_after_resume__caught():
    story = begun()
    story.put("ua", C2, "ua.w.2")
    seq = story.drop("ua.s1")
    story.add("conn", u="ua", c="ua.s1", t=story.tick(), status=200, **{"from": story.version("ua")})
    story.streams["ua.s1"] = ["ua", seq]
    story.event("ua.s1", seq, C2, story.gateway["ua"][C2])
    assert "id-repeated" in kinds(story.end())


def test_stream__sync_ahead_of_what_was_sent__caught():
    story = begun()
    story.seq["ua"] += 1
    story.add("ev", u="ua", c="ua.s1", t=story.tick(), ev="sync", id=story.version("ua"),
              data={"version": story.version("ua")})
    assert "gap" in kinds(story.end())


def test_stream__resume_behind_an_acknowledged_write__caught():
    story = begun()
    seq = story.drop("ua.s1")
    story.put("ua", C1, "ua.w.2")
    story.add("conn", u="ua", c="ua.s1", t=story.tick(), status=200,
              **{"from": story.version("ua", seq)})
    story.add("ev", u="ua", c="ua.s1", t=story.tick(), ev="sync", id=story.version("ua", seq),
              data={"version": story.version("ua", seq)})
    story.streams["ua.s1"] = ["ua", seq]
    story.event("ua.s1", story.seq["ua"], C1, story.gateway["ua"][C1])
    assert "stale-read" in kinds(story.end())


def test_stream__ends_without_bye__caught():
    story = begun()
    story.connect("ua.s1", "ua", story.drop("ua.s1", by="server"))
    assert "stream-ended" in kinds(story.end())


def test_stream__ends_with_bye__silent():
    story = begun()
    story.connect("ua.s1", "ua", story.drop("ua.s1", by="server", bye=True))
    assert kinds(story.end()) == set()


def test_stream__never_reopened__caught():
    story = begun()
    story.drop("ua.s1")
    assert "no-convergence" in kinds(story.end())


def test_rest__later_than_ten_seconds__caught():
    story = begun()
    story.xset("ua", C1, item(C1, "ua.x.1"), shown=False)
    assert "no-convergence" in kinds(story.end(late=120))


def test_rest__last_read_differs__caught():
    story = begun()
    records = story.end()
    last = [record for record in records if record.get("final") and record["u"] == "ua"][-1]
    last["items"] = []
    assert "no-convergence" in kinds(records)


def test_reads__two_rosters_under_one_version__caught():
    story = begun()
    story.get("ua")
    story.get("ua", {C1: item(C1, None)})
    assert "id-reused" in kinds(story.end())


def test_reads__snapshot_differs_from_events__caught():
    story = begun()
    story.get("ua", {})
    assert "snapshot-differs" in kinds(story.end())


def test_reads__304_for_another_version__caught():
    story = begun()
    old = story.version("ua")
    story.put("ua", C1, "ua.w.2")
    story.not_modified("ua", old, story.version("ua"))
    assert "not-modified" in kinds(story.end())


def test_reads__304_after_a_newer_write__caught():
    story = begun()
    old = story.version("ua")
    story.put("ua", C1, "ua.w.2")
    story.not_modified("ua", old)
    assert "stale-read" in kinds(story.end())


def test_reads__fresh_read_misses_the_witness__caught():
    story = begun()
    story.xset("ua", C1, item(C1, "ua.x.1"), shown=False)
    story.get("ua")
    assert kinds(story.end()) == set()
    story = begun()
    story.xset("ua", C1, item(C1, "ua.x.1"), shown=False)
    story.get("ua", fresh=True)
    assert "stale-read" in kinds(story.end())


def test_reads__unexpected_status__caught():
    story = begun()
    story.op("ua", "get", story.tick(), 500)
    assert "unexpected-answer" in kinds(story.end())


def test_changes__hole__caught():
    story = begun()
    since = story.version("ua")
    story.put("ua", C1, "ua.w.2")
    story.put("ua", C1, "ua.w.3")
    story.op("ua", "changes", story.tick(), 200, since=since, ver=story.version("ua"), more=False,
             changes=[{"version": story.version("ua"), "op": "set", "item": story.gateway["ua"][C1]}])
    assert "gap" in kinds(story.end())


def test_conditions__two_winners_of_one_version__caught():
    story = begun()
    seen = {"if_match": story.version("ua")}
    story.put("ua", C1, "ua.w.2", cond=seen)
    assert kinds(story.records + [{"k": "rest", "t": 99}]) == set()
    story.put("ua", C1, "ua.w.3", cond=seen)
    assert "lost-update" in kinds(story.end())


def test_conditions__own_change_under_if_match__silent():
    """A PATCH of one member leaves the other as an earlier write made it: that write did not come
    between (found as a false alarm in a history)."""
    story = begun()
    story.put("ua", C1, "ua.w.2", ["ua.w.2"])
    story.put("ua", C1, None, ["ua.w.2"], cond={"if_match": story.version("ua")})
    story.records[-1].update(op="patch", set={"name": None})
    assert kinds(story.end()) == set()


def test_conditions__refused_though_nothing_changed__caught():
    story = begun()
    story.get("ua")
    story.put("ua", C1, "ua.w.2", status=412, stored=False, shown=False,
              cond={"if_match": story.version("ua")})
    assert "false-412" in kinds(story.end())


def test_isolation__foreign_version__caught():
    story = begun()
    story.get("ub", {}, story.version("ua"))
    assert "isolation" in kinds(story.end())


def test_process__crash__caught():
    story = begun()
    records = story.end()
    records[-1]["wrong"] = ["the gateway had ended with -6"]
    assert "process" in kinds(records)


def test_witness__missed_push__history_is_refused():
    story = begun()
    records = story.end()
    records[-2]["items"] = [item(C2, "x")]
    with pytest.raises(ValueError):
        Checker(records).check()


# --- the planted bugs -------------------------------------------------------------------------------
BUGS = sorted(glob.glob(os.path.join(os.path.dirname(os.path.abspath(__file__)), "bugs", "*.patch")))


@pytest.mark.parametrize("patch", BUGS, ids=os.path.basename)
def test_planted_bug_applies(patch):
    """`prove` plants it in the sources as they are now."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(patch))))
    done = subprocess.run(["patch", "-p1", "--forward", "--dry-run", "-d", root, "-i", patch],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
