"""The rules of real time: a read shows what was acknowledged, or seen by anybody, before it began.

Across instances that is promised while Redis is well. A read that touches a time at which it is not is held
to what its own process has acknowledged and shown; one that begins later, to everything again.
"""
from collections import defaultdict

from model import READS, WRITES, split, value_of


class Floor:
    """The newest that was seen of one user's roster: number by prefix, position by JID; each with who saw it."""

    def __init__(self, versions=(), places=()):
        self.versions, self.places = dict(versions), dict(places)

    def copy(self):
        return Floor(self.versions, self.places)

    def lift(self, seen):
        parts = split(seen["ver"])
        if parts:
            self.to(self.versions, parts[0], parts[1], seen)
        for jid, place in seen["raise"].items():
            if place is not None:
                self.to(self.places, jid, place, seen)

    @staticmethod
    def to(table, key, height, seen):
        if height > table.get(key, (0, None))[0]:
            table[key] = (height, seen)


def told_by(seen):
    """`put of ua.w1 at g1.0, 2.345 s`"""
    where = f" at {seen['g']}" if seen["g"] else ""
    return f"{seen['what']} of {seen['who']}{where}, {seen['e']:.3f} s"


class Order:
    """Part of the Checker."""

    def check_order(self):
        """Read your writes, and no read older than one that ended before it began."""
        events = []  # (time, 0 begin | 1 end, number, what)
        for number, seen in enumerate(self.observations()):
            if seen["s"] is not None:
                events.append((seen["s"], 0, number, seen))
            events.append((seen["e"], 1, number, seen))
        events.sort(key=lambda event: event[:3])
        everywhere, here = defaultdict(Floor), defaultdict(Floor)
        for _, end, _, seen in events:
            user, process = seen["u"], (seen["u"], seen["g"])
            if not end:
                alone = self.health.unwell(seen["s"], seen["e"])
                self.held_to["its own process" if alone else "all"] += 1
                seen["floor"] = (here[process] if alone else everywhere[user]).copy()
                continue
            if seen["s"] is not None:
                self.check_floor(seen)
            everywhere[user].lift(seen)
            here[process].lift(seen)

    def observations(self):
        """Everything seen: s and e, version, values per JID, positions it proves."""
        for record in self.records:
            if record["k"] == "ev" and record["ev"] in ("roster.set", "roster.remove"):
                data = record["data"]
                jid = data["item"]["jid"] if "item" in data else data["jid"]
                canon, seq = self.versions.find(record["u"], record["id"])
                # Under a reused id another change may stand: it says nothing about this JID.
                known = canon is not None and canon.changes[seq][0] == jid
                yield {"u": record["u"], "s": None, "e": record["t"], "ver": record["id"],
                       "what": "the stream", "who": record["c"], "g": record.get("g"),
                       "raise": {jid: canon.places.get(seq) if known else None}}
            elif record["k"] == "op" and record["op"] in READS | WRITES and record.get("hver"):
                yield self.observation(record)
        for stream in self.held.values():
            for start, end, version, client, process in stream.get("syncs", ()):
                yield self.seen(stream["u"], start, end, version,
                                self.versions.state_at(stream["u"], version), "the stream", client, process)

    def observation(self, op):
        status, state, partial = op["status"], None, None
        if op["op"] == "get":
            version = op["ver"] if status == 200 else op["cond"]["inm"] if status == 304 else None
            state = self.versions.state_at(op["u"], version)
        elif op["op"] == "changes" and status == 200:
            version = op["ver"]
            state = None if op["more"] else self.versions.state_at(op["u"], version)
            version = None if op["more"] else version
        else:
            version = op["hver"]
            if op["op"] == "get-item" and status in (200, 404):
                partial = {op["jid"]: value_of(op.get("item")) if status == 200 else None}
        seen = self.seen(op["u"], op["s"], op["e"], version, state, op["op"], op["c"], op.get("g"), partial)
        seen["fresh"] = op.get("fresh") and status == 200 and not op.get("stale")
        if id(op) in self.place_of:
            seen["raise"][op["jid"]] = self.place_of[id(op)]
        return seen

    def seen(self, user, start, end, version, state, what, who, process, partial=None):
        account = self.accounts[user]
        if state is not None:
            partial = {jid: state.get(jid) for jid in set(account.registers) | set(state)}
        values = partial or {}
        return {"u": user, "s": start, "e": end, "ver": version, "values": values, "what": what, "who": who,
                "g": process, "raise": {jid: account.register(jid).first(value)
                                        for jid, value in values.items()}}

    def check_floor(self, seen):
        floor, user, parts = seen["floor"], seen["u"], split(seen["ver"])
        least, other = floor.versions.get(parts[0], (0, None)) if parts else (0, None)
        if parts and parts[1] < least:
            self.report("stale-read", user, seen["e"],
                        f"{told_by(seen)}, begun at {seen['s']:.3f}, gave {seen['ver']}, "
                        f"but {least} was seen before ({told_by(other)})")
        account = self.accounts[user]
        for jid, value in seen["values"].items():
            register = account.register(jid)
            low, other = floor.places.get(jid, (0, None))
            # With its owner dead, nobody reads an account from the server until it is taken over.
            if seen.get("fresh") and not self.health.taking_over(seen["s"], seen["e"]) and \
                    register.at_time(seen["s"]) > low:
                low, other = register.at_time(seen["s"]), None
            last = register.last(value)
            if last is None:
                self.report("invented", user, seen["e"], f"{told_by(seen)}: {jid} {value}")
            elif last < low:
                why = "as the server had it" if other is None else told_by(other)
                self.report("stale-read", user, seen["e"],
                            f"{told_by(seen)}, begun at {seen['s']:.3f}, shows {jid} as {value}, "
                            f"older than {value_of(register.items[low])} ({why})")
