"""What a history is checked against: the server's own order of states, as the witness saw it.

A roster is a set of registers, one per JID; a value is an item's canonical text, None if there is no
item. Names and tagged groups are unique to the write that made them, so a value names its writer.
"""
import bisect
import json
import os
import re

STRETCH = float(os.environ.get("RG_TEST_PATIENCE", "1"))  # of every deadline, on a slow machine
SLACK = 1.0  # seconds the witness may hear of a change after everybody else
MEMBERS = {"jid", "name", "groups", "subscription", "ask", "approved"}
READS = {"get", "get-item", "changes"}
WRITES = {"put", "patch", "delete"}
WITNESS = {"xset", "xremove", "xsub"}
OWNER = re.compile(r"(?:^|[^a-z0-9])(u[a-z])[.@]")


def value_of(item):
    return None if item is None else json.dumps(item, sort_keys=True, ensure_ascii=False)


def pair_of(item):
    """What a roster set sets."""
    return None if item is None else (item["name"], tuple(item["groups"]))


def owners_of(item):
    """The users whose marks an item bears: its JID, its name and its tagged groups."""
    texts = [item.get("jid") or "", item.get("name") or ""] + list(item.get("groups") or ())
    return {mark for text in texts for mark in OWNER.findall(text)}


def split(version):
    """(prefix, seq), None if it is no version."""
    prefix, dash, seq = (version or "").rpartition("-")
    return (prefix, int(seq)) if dash and seq.isdigit() else None


def epoch_of(prefix):
    """The journal a prefix belongs to: its marks change with the writer, the numbers go on."""
    return prefix.partition(".")[0]


class Register:
    """One JID of one account as the server had it, oldest first."""

    def __init__(self, item):
        self.times = [float("-inf")]
        self.items = [item]
        self.at = {value_of(item): [0]}
        self.pairs = {pair_of(item): [0]}

    def add(self, time, item):
        value = value_of(item)
        if value == value_of(self.items[-1]):
            return
        index = len(self.items)
        self.times.append(time)
        self.items.append(item)
        self.at.setdefault(value, []).append(index)
        self.pairs.setdefault(pair_of(item), []).append(index)

    def first(self, value):
        return self.at[value][0] if value in self.at else None

    def last(self, value):
        return self.at[value][-1] if value in self.at else None

    def find(self, value, low):
        """The first position of value not before low; None if there is none."""
        positions = self.at.get(value, ())
        index = bisect.bisect_left(positions, low)
        return positions[index] if index < len(positions) else None

    def find_pair(self, pair, time):
        """The first position of a pair that was made not before time."""
        for index in self.pairs.get(pair, ()):
            if self.times[index] >= time:
                return index
        return None

    def at_time(self, time):
        """The position that stood at time."""
        return bisect.bisect_right(self.times, time) - 1

    def during(self, start, end):
        """All positions that stood at some moment of the interval."""
        return range(self.at_time(start), self.at_time(end) + 1)


class Account:
    """The server's side of one user."""

    def __init__(self, items):
        self.registers = {jid: Register(item) for jid, item in items.items()}
        self.now = dict(items)

    def push(self, time, jid, item):
        if jid not in self.registers:
            self.registers[jid] = Register(None)
        self.registers[jid].add(time, item)
        if item is None:
            self.now.pop(jid, None)
        else:
            self.now[jid] = item

    def register(self, jid):
        return self.registers.get(jid) or Register(None)


def difference(left, right):
    """A short text of what differs between two states."""
    parts = []
    for jid in sorted(set(left) | set(right)):
        if left.get(jid) != right.get(jid):
            parts.append(f"{jid}: {left.get(jid)} <> {right.get(jid)}")
    return "; ".join(parts[:3]) + (f"; and {len(parts) - 3} more" if len(parts) > 3 else "")
