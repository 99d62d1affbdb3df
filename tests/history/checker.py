"""The history checker: reads a recorded history (JSON lines) and lists what the gateway must not do.

See README.md for the rules and the form of the records. It only refutes: a history without a
violation is no proof. Near linear: every observation is looked at a fixed number of times.
"""
import json
import sys
from collections import Counter, defaultdict

from health import Health
from model import MEMBERS, STRETCH, WITNESS, WRITES, Account, difference, owners_of, pair_of, split, value_of
from order import Order
from streams import Streams
from versions import Versions
from writes import Writes

CONVERGED = 10.0 * STRETCH  # seconds after the last fault
PATIENCE = 20.0 * STRETCH  # seconds within which every request is answered: two waits of 10 s


def load(path):
    with open(path) as lines:
        return [json.loads(line) for line in lines]


def begun(times, what, op):
    """Keeps the earliest begin; the records stand in the order of the ends."""
    times[what] = min(times.get(what, op["s"]), op["s"])


class Checker(Streams, Writes, Order):
    def __init__(self, records):
        self.records = records
        self.violations = []
        self.accounts = {}
        self.finals = {}
        self.versions = Versions()
        self.health = Health(records)
        self.prefix_owner = {}
        self.held_to = Counter()  # what reads were held to
        self.rest = None

    def report(self, kind, user, time, text):
        self.violations.append({"kind": kind, "user": user, "t": time, "text": text})

    def check(self):
        """Returns the violations, in the order they were found."""
        self.read_server()
        for record in self.records:
            if record["k"] == "op" and record["op"] not in WITNESS:
                self.observe_op(record)
            elif record["k"] == "ev":
                self.observe_event(record)
            elif record["k"] == "gateway":
                for text in record["wrong"]:
                    self.report("process", None, record["t"], text)
        self.versions.gather(self.records)
        self.versions.build(self.accounts, self.health, self.report)
        self.check_attribution()
        self.check_streams()
        self.check_writes()
        self.check_conditions()
        self.check_order()
        self.check_end()
        return self.violations

    # --- the server's side --------------------------------------------------------------------
    def read_server(self):
        for record in self.records:
            kind = record["k"]
            if kind == "wit0":
                self.accounts[record["u"]] = Account({i["jid"]: i for i in record["items"]})
            elif kind == "wit":
                self.accounts[record["u"]].push(record["t"], record["jid"], record["item"])
            elif kind == "final":
                self.finals[record["u"]] = {i["jid"]: i for i in record["items"]}
            elif kind == "rest":
                self.rest = record["t"]
        for user, items in self.finals.items():
            if items != self.accounts[user].now:
                raise ValueError(f"the witness of {user} missed a push: the history proves nothing")

    def check_attribution(self):
        """Nothing is invented: each state the server ever had was written by somebody, whole."""
        written, groups, names, removers = (defaultdict(dict) for _ in range(4))
        patched = defaultdict(set)
        for op in self.records:
            if op["k"] != "op" or op["op"] not in WRITES | WITNESS:
                continue
            key, wanted = (op["u"], op["jid"]), op.get("set")
            if op["op"] == "xsub":  # adds the contact if it is not there
                wanted = {"name": None, "groups": []}
            if op["op"] in ("delete", "xremove"):
                begun(removers[key], "first", op)
            elif wanted is not None:
                if "name" in wanted:
                    begun(names[key], wanted["name"], op)
                if "groups" in wanted:
                    begun(groups[key], tuple(wanted["groups"]), op)
                if len(wanted) == 2:
                    begun(written[key], (wanted["name"], tuple(wanted["groups"])), op)
                else:
                    patched[key].add(("name", wanted["name"]) if "name" in wanted
                                     else ("groups", tuple(wanted["groups"])))
        for user, account in self.accounts.items():
            for jid, register in account.registers.items():
                key, base = (user, jid), register.items[0]
                if base is not None:
                    names[key].setdefault(base["name"], 0)
                    groups[key].setdefault(tuple(base["groups"]), 0)
                for time, item in zip(register.times[1:], register.items[1:]):
                    if not self.attributed(key, item, time, base, written, groups, names, patched,
                                           removers):
                        self.report("invented", user, time, f"nobody wrote {jid} {value_of(item)}")
                self.check_once(user, jid, register)

    @staticmethod
    def attributed(key, item, time, base, written, groups, names, patched, removers):
        if item is None:
            return removers[key].get("first", float("inf")) <= time
        pair = pair_of(item)
        if pair == pair_of(base) or written[key].get(pair, float("inf")) <= time:
            return True
        name, listed = pair
        later = float("inf")
        if names[key].get(name, later) > time and name is not None:
            return False
        if groups[key].get(listed, later) > time and listed:
            return False
        return ("name", name) in patched[key] or ("groups", listed) in patched[key]

    def check_once(self, user, jid, register):
        """A value with a unique name that comes back after another one was written twice."""
        seen, previous = set(), None
        for time, item in zip(register.times, register.items):
            pair = pair_of(item)
            if pair != previous and pair is not None and pair[0] is not None:
                if pair in seen:
                    self.report("written-twice", user, time, f"{jid} is again {pair}")
                seen.add(pair)
            previous = pair

    # --- gathering ------------------------------------------------------------------------------
    def canon(self, user, version, time):
        """(canon, seq); None if it is no version."""
        parts = split(version)
        if parts is None:
            self.report("malformed", user, time, f"not a version: {version!r}")
            return None
        owner = self.prefix_owner.setdefault(parts[0], user)
        if owner != user:
            self.report("isolation", user, time, f"version {version} belongs to {owner}")
            return None
        return self.versions.at(user, parts[0]), parts[1]

    def vet(self, user, item, time):
        """Form and owner of an item that was shown to a user."""
        if set(item) != MEMBERS or item["groups"] != sorted(set(item["groups"])) or item["name"] == "":
            self.report("malformed", user, time, f"item {item}")
        if owners_of(item) - {user}:
            self.report("isolation", user, time, f"{user} was shown {value_of(item)}")

    def see_roster(self, user, version, items, time):
        jids = [item["jid"] for item in items]
        if jids != sorted(set(jids)):
            self.report("malformed", user, time, f"items are not sorted or not unique: {jids}")
        for item in items:
            self.vet(user, item, time)
        found = self.canon(user, version, time)
        if found:
            clash = found[0].see_snap(found[1], {i["jid"]: value_of(i) for i in items}, time)
            if clash:
                self.report("id-reused", user, time, f"{version} names two rosters: " + difference(
                    clash[0], {i["jid"]: value_of(i) for i in items}))

    def see_change(self, user, version, jid, item, time):
        if item is not None:
            self.vet(user, item, time)
        elif owners_of({"jid": jid}) - {user}:
            self.report("isolation", user, time, f"{user} was told of {jid}")
        found = self.canon(user, version, time)
        if found:
            clash = found[0].see_change(found[1], jid, value_of(item), time)
            if clash:
                self.report("id-reused", user, time,
                            f"{version} names two changes: {clash[:2]} and {(jid, value_of(item))}")

    def observe_event(self, record):
        user, time, data = record["u"], record["t"], record["data"]
        kind, version = record["ev"], record["id"]
        if kind in ("roster", "roster.set", "roster.remove") and data.get("version") != version:
            self.report("malformed", user, time, f"{kind}: id {version}, version {data.get('version')}")
        if kind == "roster":
            self.see_roster(user, version, data["items"], time)
        elif kind == "roster.set":
            self.see_change(user, version, data["item"]["jid"], data["item"], time)
        elif kind == "roster.remove":
            self.see_change(user, version, data["jid"], None, time)
        elif kind == "bye" and data["reason"] not in ("rotate", "drain", "signed-out"):
            self.report("bye", user, time, f"{record['c']} was sent away: {data['reason']}")

    def observe_op(self, op):
        user, time, status = op["u"], op["e"], op.get("status")
        self.check_answer(op)
        if status == 200 and op["op"] == "get":
            self.see_roster(user, op["ver"], op["items"], time)
            if op["etag"] != f'"{op["ver"]}"' or op["hver"] != op["ver"]:
                self.report("malformed", user, time, f"ETag {op['etag']}, version {op['ver']}")
        elif status == 304 and op["hver"] not in (None, op["cond"]["inm"]):
            self.report("not-modified", user, time,
                        f"304 for {op['cond']['inm']} though the version is {op['hver']}")
        elif status == 200 and op["op"] == "changes":
            for change in op["changes"]:
                item = change.get("item")
                self.see_change(user, change["version"], item["jid"] if item else change["jid"], item,
                                time)
            self.check_contiguous(op)
        elif op.get("item") is not None:
            self.vet(user, op["item"], time)
            if op["item"]["jid"] != op["jid"]:
                self.report("wrong-answer", user, time, f"asked for {op['jid']}, got {op['item']}")

    def check_contiguous(self, op):
        at = split(op["since"])
        for change in op["changes"]:
            to = split(change["version"])
            if to is None:
                return
            if at and to[0] == at[0] and to[1] != at[1] + 1:
                self.report("gap", op["u"], op["e"],
                            f"changes since {op['since']}: after {at[1]} comes {to[1]}")
            at = to
        if split(op["ver"]) != at:
            self.report("gap", op["u"], op["e"],
                        f"changes since {op['since']} end at {at} but claim {op['ver']}")

    EXPECTED = {
        "get": {200, 304}, "get-item": {200, 404}, "changes": {200, 410},
        "put": {200, 201, 412, 503, 504}, "patch": {200, 404, 412, 503, 504},
        "delete": {204, 404, 412, 503, 504}, "sign-in": {201, 502, 503, 504}, "sign-out": {204},
    }
    ALSO = {("put", 502, "not-applied"), ("patch", 502, "not-applied"), ("delete", 502, "not-applied")}

    def check_answer(self, op):
        if op["e"] - op["s"] > PATIENCE:
            self.report("no-answer", op["u"], op["e"], f"{op['op']}: {op['e'] - op['s']:.1f} s")
        status = op.get("status")
        if status is None:
            if not op.get("dropped") and not self.health.was_away(op.get("g"), op["s"], op["e"]):
                self.report("no-answer", op["u"], op["e"], f"{op['op']}: {op.get('err')}")
            return
        allowed = set(self.EXPECTED[op["op"]])
        if op.get("fresh"):
            allowed |= {502, 503, 504}
        if op["op"] == "sign-out" and self.health.unwell(op["s"], op["e"]):
            allowed.add(202)  # told to the other instances once Redis is back
        if self.has_nothing(op, op["e"]):
            allowed.add(503)
        if self.health.links_hold and not self.health.taking_over(op["s"], op["e"]):
            allowed -= {502, 503, 504}  # nothing but Redis was in trouble, and it must not be felt
        if status not in allowed and (op["op"], status, op.get("code")) not in self.ALSO:
            self.report("unexpected-answer", op["u"], op["e"],
                        f"{op['op']} {op.get('jid', '')}: {status} {op.get('code')}")

    def has_nothing(self, record, time):
        """503: with Redis not well and the server's link broken, a process that has not shown the
        roster yet has nowhere to take it from."""
        start = record.get("s", record.get("t"))
        return record.get("status") == 503 and record.get("code") == "xmpp-unreachable" and \
            (self.health.unwell(start, time) or not self.health.is_kept(record["u"], start)) and \
            self.health.knows_nothing(record["u"], record.get("g"), start)

    # --- the end --------------------------------------------------------------------------------
    def check_end(self):
        """At rest every client holds what the server holds."""
        for name, stream in self.held.items():
            user = stream["u"]
            if user not in self.finals:
                continue
            final = {jid: value_of(item) for jid, item in self.finals[user].items()}
            if not stream["open"]:
                self.report("no-convergence", user, stream["t"], f"{name}: the stream is not open")
            elif stream["state"] != final:
                self.report("no-convergence", user, stream["t"],
                            f"{name} at {stream['ver']}: {difference(stream['state'] or {}, final)}")
            elif stream["t"] > self.rest + CONVERGED:
                self.report("no-convergence", user, stream["t"],
                            f"{name}: {stream['t'] - self.rest:.1f} s after the last fault")
        versions = {}
        for op in self.records:
            if op["k"] == "op" and op.get("final") and op["u"] in self.finals:
                first = versions.setdefault(op["u"], op)
                if op.get("ver") != first.get("ver"):
                    self.report("no-convergence", op["u"], op["e"], f"at rest {op.get('g')} is at "
                                f"{op.get('ver')}, {first.get('g')} at {first.get('ver')}")
                final = {jid: value_of(item) for jid, item in self.finals[op["u"]].items()}
                items = {item["jid"]: value_of(item) for item in op.get("items") or ()}
                if op.get("status") != 200 or items != final:
                    self.report("no-convergence", op["u"], op["e"],
                                f"the last GET ({op.get('status')}): {difference(items, final)}")


def check_file(path):
    return Checker(load(path)).check()


if __name__ == "__main__":
    found = [violation for path in sys.argv[1:] for violation in check_file(path)]
    for violation in found:
        print(json.dumps(violation, ensure_ascii=False))
    sys.exit(1 if found else 0)
