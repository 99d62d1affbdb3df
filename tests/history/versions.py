"""The one content every version stands for, gathered from all clients of all instances.

Versions of one journal go on over a change of its writer: the new one draws a new mark, so the prefix is
another one, but the next number follows. Where a stream or a list of changes steps from one prefix into
another without a `roster` event, that step is kept as a link, and what is known goes on along it.
"""
import bisect
from itertools import groupby

from model import SLACK, difference, epoch_of, split


class Canon:
    """All that was seen under the versions of one user and one prefix."""

    def __init__(self, user, prefix):
        self.user, self.prefix = user, prefix
        self.changes = {}  # seq -> (jid, value, time)
        self.snaps = {}  # seq -> ({jid: value}, time)
        self.links = {}  # seq -> prefixes of the versions before it, where they are others
        self.states = {}  # seq -> {jid: value}, only where it is known
        self.places = {}  # seq -> position of its change in the server's order
        self.by_jid = {}  # jid -> seqs at which it changed, ascending
        self.lows = {}  # jid -> the least position it can be at, as far as it is built

    def see_change(self, seq, jid, value, time):
        """None, or what it clashes with."""
        known = self.changes.setdefault(seq, (jid, value, time))
        return None if known[:2] == (jid, value) else known

    def see_snap(self, seq, state, time):
        known = self.snaps.setdefault(seq, (state, time))
        return None if known[0] == state else known

    def seqs(self):
        return set(self.changes) | set(self.snaps)

    def before(self, canons, seq):
        """What is known of the versions this one followed: [(version, state)], positions by JID."""
        known, lows = [], {}
        if seq - 1 in self.states:
            known.append((f"{self.prefix}-{seq - 1}", self.states[seq - 1]))
        for prefix in sorted(self.links.get(seq, ())):
            other = canons.get((self.user, prefix))
            if other is None:
                continue
            if seq - 1 in other.states:
                known.append((f"{prefix}-{seq - 1}", other.states[seq - 1]))
            for jid, low in other.lows.items():
                lows[jid] = max(lows.get(jid, -1), low)
        return known, lows

    def step(self, account, seq, before, lows, health, report):
        """One version: one content, in the order the server had them."""
        next_state = None
        if seq in self.changes:
            jid, value, time = self.changes[seq]
            # While instances were on their own, each had its own link to the server: the new
            # writer may know less than the old one did.
            if not health.unwell(time, time):
                for other, low in lows.items():
                    self.lows[other] = max(self.lows.get(other, -1), low)
            self.by_jid.setdefault(jid, []).append(seq)
            for version, state in before:
                next_state = self.change(next_state, version, state, seq, report)
            self.place(account, jid, value, seq, time, self.lows.get(jid, -1) + 1, report)
            self.places[seq] = self.lows.get(jid)
        if seq in self.snaps:
            snap, time = self.snaps[seq]
            if next_state is not None and next_state != snap:
                report("snapshot-differs", self.user, time,
                       f"{self.prefix}-{seq}: events lead to another roster than the snapshot: "
                       f"{difference(next_state, snap)}")
            for jid in set(account.registers) | set(snap):
                self.place(account, jid, snap.get(jid), seq, time, max(self.lows.get(jid, 0), 0), report)
            next_state = snap
        if next_state is not None:
            self.states[seq] = next_state

    def change(self, reached, version, state, seq, report):
        """The state this version's change leads to from the one of `version`; `reached` is where it
        led to from another one."""
        jid, value, time = self.changes[seq]
        if state.get(jid) == value:
            report("empty-change", self.user, time,
                   f"{self.prefix}-{seq} changes nothing: {jid} {value}")
        after = {**state, jid: value}
        if value is None:
            del after[jid]
        if reached is not None and reached != after:
            report("id-reused", self.user, time, f"{self.prefix}-{seq} names two rosters, another one "
                   f"behind {version}: {difference(reached, after)}")
        return after if reached is None else reached

    def place(self, account, jid, value, seq, time, low, report):
        register = account.register(jid)
        position = register.find(value, low)
        if position is not None and register.times[position] > time + SLACK:
            report("early", self.user, time, f"{self.prefix}-{seq} shows {jid} "
                   f"{register.times[position] - time:.2f} s before the server had it: {value}")
        elif position is not None:
            self.lows[jid] = position
        elif register.first(value) is None:
            report("invented", self.user, time,
                   f"{self.prefix}-{seq} shows {jid} as the server never had it: {value}")
        else:
            report("went-back", self.user, time,
                   f"{self.prefix}-{seq} shows {jid} older than before: {value}")

    def changed_between(self, jid, low, high):
        """Seqs in (low, high] at which jid changed."""
        seqs = self.by_jid.get(jid, [])
        return seqs[bisect.bisect_right(seqs, low):bisect.bisect_right(seqs, high)]


class Versions:
    """All versions of all users."""

    def __init__(self):
        self.canons = {}  # (user, prefix) -> Canon
        self.shown_by = {}  # (user, version) -> {process: when it first gave it to somebody}

    def at(self, user, prefix):
        key = (user, prefix)
        if key not in self.canons:
            self.canons[key] = Canon(user, prefix)
        return self.canons[key]

    def find(self, user, version):
        """(canon or None, seq)"""
        parts = split(version)
        return (self.canons.get((user, parts[0])), parts[1]) if parts else (None, None)

    def state_at(self, user, version):
        canon, seq = self.find(user, version)
        return canon.states.get(seq) if canon else None

    def link(self, user, was, now):
        """A change was seen at `now` by somebody who was at `was`."""
        was, now = split(was), split(now)
        if was and now and was[0] != now[0] and now[1] == was[1] + 1 and epoch_of(was[0]) == epoch_of(now[0]):
            self.at(user, now[0]).links.setdefault(now[1], set()).add(was[0])

    def gather(self, records):
        """Who gave which version, and which versions follow one another over a change of the writer."""
        held = {}  # client -> the version its stream is at
        for record in records:
            kind = record["k"]
            version = record.get("id") if kind == "ev" else record.get("hver") if kind == "op" else None
            if version:
                first = self.shown_by.setdefault((record["u"], version), {})
                first.setdefault(record.get("g"), record["t"] if kind == "ev" else record["e"])
            if kind == "conn" and record["status"] == 200:
                held[record["c"]] = record["from"]
            elif kind == "ev" and record["id"]:
                if record["ev"] in ("roster.set", "roster.remove"):
                    self.link(record["u"], held.get(record["c"]), record["id"])
                held[record["c"]] = record["id"]
            elif kind == "op" and record["op"] == "changes" and record.get("status") == 200:
                at = record["since"]
                for change in record["changes"]:
                    self.link(record["u"], at, change["version"])
                    at = change["version"]

    def build(self, accounts, health, report):
        """Replays all versions, oldest number first, so that a link's begin is known before its end."""
        steps = sorted((canon.user, seq, canon.prefix) for canon in self.canons.values()
                       for seq in canon.seqs())
        for (user, seq), group in groupby(steps, key=lambda step: step[:2]):
            canons = [self.canons[user, prefix] for _, _, prefix in group]
            known = [canon.before(self.canons, seq) for canon in canons]
            for canon, (before, lows) in zip(canons, known):
                canon.step(accounts[user], seq, before, lows, health, report)
