"""What a record says about the health of what stands between and beside the instances: when Redis was
not well, which instance was killed when, and what the nemesis was allowed to break at all.

Recency across instances is promised only while Redis is well. A window begins with a fault of Redis and
ends GRACE seconds after Redis is back: so long the instances have to agree on one owner and one journal.
A `life` is one process of an instance ("g1.0", after a kill "g1.1"); memory ends with it.
"""
GRACE = 6.5  # seconds: the owner's heartbeat lives 5 s and is renewed every second
BESIDE = ("redis-kill", "redis-flush", "redis-roll-back", "redis-pause", "gateway-kill")


class Health:
    def __init__(self, records):
        self.windows, self.takeovers, self.warm = [], [], {}
        self.written = {}  # user -> moments at which an owner had written the account anew
        told = set()
        self.died, self.up = {}, {}  # life -> time
        self.links_hold = False
        for record in records:
            kind = record["k"]
            if kind == "meta" and "faults" in record:
                self.links_hold = not set(record["faults"]) - set(BESIDE)
            elif kind == "fault" and record["what"] == "gateway-kill":
                self.died[record["g"]] = record["t"]
                self.takeovers.append((record["t"], record["t"] + GRACE))
                if self.windows and record["t"] <= self.windows[-1][1]:
                    # Who comes back to Redis late may find this one's heartbeat, and goes on alone.
                    self.windows[-1] = (self.windows[-1][0], max(self.windows[-1][1], record["t"] + GRACE))
            elif kind == "fault" and record["what"].startswith("redis-"):
                self.windows.append((record["t"], float("inf")))
            elif kind == "up":
                self.up[record["g"]] = record["t"]
            elif kind == "healed":
                self.windows[-1] = (self.windows[-1][0], record["t"] + GRACE)
            elif kind == "ev" and record["ev"].startswith("roster.") and record["id"] not in told:
                told.add(record["id"])
                self.written.setdefault(record["u"], []).append(record["t"])
            elif kind == "op" and record["out"] == "ok" and (record.get("hver") or record["op"] == "sign-in"):
                self.warm.setdefault((record["u"], record.get("g")), record["e"])

    @staticmethod
    def touched(windows, start, end):
        return any(begin <= end and start <= over for begin, over in windows)

    def unwell(self, start, end):
        """Was there a moment in the interval at which Redis was not well?"""
        return self.touched(self.windows, start, end)

    def is_kept(self, user, time):
        """Has an owner written the account since Redis was last in trouble? What nobody stood by is not
        written back into a Redis that lost it."""
        since = max((begin for begin, _ in self.windows if begin < time), default=float("-inf"))
        return since == float("-inf") or any(since < moment < time for moment in self.written.get(user, ()))

    def taking_over(self, start, end):
        """Was there a moment at which an account may have had no owner that lives?"""
        return self.touched(self.takeovers, start, end)

    def was_away(self, life, start, end):
        """Was this process killed before `end`, or not yet listening at `start`?"""
        return self.died.get(life, float("inf")) <= end or self.up.get(life, 0) >= start

    def knows_nothing(self, user, life, time):
        """Has this process never yet shown anything of the user's roster?"""
        return self.warm.get((user, life), float("inf")) >= time
