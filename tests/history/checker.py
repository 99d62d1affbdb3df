"""The history checker: reads a recorded history (JSON lines) and lists what the gateway must not do.

See README.md for the rules and the form of the records. It only refutes: a history without a
violation is no proof. Near linear: every observation is looked at a fixed number of times.
"""
import json
import sys
from collections import defaultdict

from model import MEMBERS, SLACK, Account, Canon, difference, owners_of, pair_of, split, value_of

CONVERGED = 10.0  # seconds after the last fault
PATIENCE = 15.0  # seconds within which every request is answered

READS = {"get", "get-item", "changes"}
WRITES = {"put", "patch", "delete"}
WITNESS = {"xset", "xremove", "xsub"}
UNKNOWN_CODES = {502, 504}


def load(path):
    with open(path) as lines:
        return [json.loads(line) for line in lines]


def begun(times, what, op):
    """Keeps the earliest begin; the records stand in the order of the ends."""
    times[what] = min(times.get(what, op["s"]), op["s"])


class Checker:
    def __init__(self, records):
        self.records = records
        self.violations = []
        self.accounts = {}
        self.finals = {}
        self.canons = {}
        self.prefix_owner = {}
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
        for (user, _), canon in self.canons.items():
            canon.build(self.accounts[user], self.report)
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
        key = (user, parts[0])
        if key not in self.canons:
            self.canons[key] = Canon(user, parts[0])
        return self.canons[key], parts[1]

    def state_at(self, user, version):
        parts = split(version)
        canon = self.canons.get((user, parts[0])) if parts else None
        return canon.states.get(parts[1]) if canon else None

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
            if not op.get("dropped"):
                self.report("no-answer", op["u"], op["e"], f"{op['op']}: {op.get('err')}")
            return
        allowed = set(self.EXPECTED[op["op"]])
        if op.get("fresh"):
            allowed |= {502, 503, 504}
        if status not in allowed and (op["op"], status, op.get("code")) not in self.ALSO:
            self.report("unexpected-answer", op["u"], op["e"],
                        f"{op['op']} {op.get('jid', '')}: {status} {op.get('code')}")

    # --- streams --------------------------------------------------------------------------------
    def check_streams(self):
        self.held = {}
        for record in self.records:
            if record["k"] == "conn":
                self.stream_opened(record)
            elif record["k"] == "drop" and record["c"] in self.held:
                self.held[record["c"]]["open"] = False
                if record["by"] == "server" and not record["bye"]:
                    self.report("stream-ended", record["u"], record["t"],
                                f"{record['c']}: the stream ended without bye")
            elif record["k"] == "ev":
                self.stream_event(record)

    def stream_opened(self, record):
        stream = self.held.setdefault(record["c"], {"state": None, "ver": None, "t": 0})
        stream.update(open=record.get("status") == 200, u=record["u"], conn=record)
        if record.get("status") not in (200, None):
            self.report("unexpected-answer", record["u"], record["t"],
                        f"events: {record['status']} {record.get('code')}")
        if record["from"] is None:
            stream.update(state=None, ver=None)
        elif record["from"] != stream["ver"]:
            stream.update(state=self.state_at(record["u"], record["from"]), ver=record["from"])

    def stream_event(self, record):
        kind, version = record["ev"], record["id"]
        stream = self.held[record["c"]]
        if kind not in ("roster", "roster.set", "roster.remove", "sync"):
            return
        was, now = split(stream["ver"]), split(version)
        same = was is not None and now is not None and was[0] == now[0]
        where = f"{record['c']}: {stream['ver']} -> {version} ({kind})"
        if same and now[1] < was[1]:
            self.report("version-back", record["u"], record["t"], where)
        if kind == "sync":
            self.stream_sync(record, stream, where)
            return
        if kind == "roster":
            stream["state"] = {i["jid"]: value_of(i) for i in record["data"]["items"]}
        else:
            if was is None:
                self.report("gap", record["u"], record["t"], f"{where}: a change before any roster")
            elif same and now[1] == was[1]:
                self.report("id-repeated", record["u"], record["t"], where)
            elif same and now[1] > was[1] + 1:
                self.report("gap", record["u"], record["t"], where)
            self.stream_change(stream, record["data"])
        stream.update(ver=version, t=record["t"])

    @staticmethod
    def stream_change(stream, data):
        if stream["state"] is not None:
            stream["state"] = dict(stream["state"])
            if "item" in data:
                stream["state"][data["item"]["jid"]] = value_of(data["item"])
            else:
                stream["state"].pop(data["jid"], None)

    def stream_sync(self, record, stream, where):
        if stream["ver"] is None or record["id"] != stream["ver"] or \
                record["data"]["version"] != record["id"]:
            self.report("gap", record["u"], record["t"], f"{where}: sync is not what was sent")
            return
        known = self.state_at(record["u"], stream["ver"])
        if known is not None and stream["state"] is not None and known != stream["state"]:
            self.report("stream-state", record["u"], record["t"],
                        f"{where}: {difference(stream['state'], known)}")
        stream.setdefault("syncs", []).append((stream["conn"]["t"], record["t"], stream["ver"]))

    # --- writes ---------------------------------------------------------------------------------
    def writes(self, *outcomes):
        return (op for op in self.records
                if op["k"] == "op" and op["op"] in WRITES and op["out"] in outcomes)

    def check_writes(self):
        self.place_of = {}
        for op in self.writes("ok"):
            register = self.accounts[op["u"]].register(op["jid"])
            place = self.place_write(op, register)
            if place is None:
                self.report("lost-write", op["u"], op["e"],
                            f"{op['op']} {op['jid']} {op.get('set')} was acknowledged, "
                            "the server never had it")
                continue
            self.place_of[id(op)] = place
            if register.times[place] > op["e"] + SLACK:
                self.report("early-answer", op["u"], op["e"],
                            f"{op['op']} {op['jid']} was acknowledged "
                            f"{register.times[place] - op['e']:.2f} s before the server had it")
            self.check_answered_item(op, register, place)
        for op in self.writes("fail"):
            register = self.accounts[op["u"]].register(op["jid"])
            if self.is_marked(op) and self.place_write(op, register) is not None:
                self.report("refused-but-done", op["u"], op["e"],
                            f"{op['op']} {op['jid']} {op.get('set')}: {op['status']} {op.get('code')}")

    @staticmethod
    def is_marked(op):
        """Can this write be told from all others by what it sets?"""
        wanted = op.get("set") or {}
        return wanted.get("name") is not None or any(owners_of({"groups": [group]})
                                                     for group in wanted.get("groups", ()))

    @staticmethod
    def place_write(op, register):
        """The earliest position that may be this write; None if it was never there."""
        if op["op"] == "delete":
            for index in register.during(op["s"], op["e"] + SLACK):
                if register.items[index] is None:
                    return index
            return None
        wanted = op["set"]
        if len(wanted) == 2:
            return register.find_pair((wanted["name"], tuple(wanted["groups"])), op["s"])
        for index in range(max(register.at_time(op["s"]), 0), len(register.items)):
            item = register.items[index]
            if item is not None and all(item[name] == wanted[name] for name in wanted):
                return index
        return None

    def check_answered_item(self, op, register, place):
        item = op.get("item")
        if op["op"] == "delete":
            return
        last = register.last(value_of(item))
        if item is None or last is None or last < place:
            self.report("wrong-answer", op["u"], op["e"],
                        f"{op['op']} {op['jid']} {op['set']} was answered with {value_of(item)}")
            return
        state = self.state_at(op["u"], op["ver"])
        if state is not None and state.get(op["jid"]) != value_of(item):
            self.report("wrong-answer", op["u"], op["e"],
                        f"{op['ver']} has {op['jid']} as {state.get(op['jid'])}, "
                        f"the answer said {value_of(item)}")

    # --- conditions -----------------------------------------------------------------------------
    def check_conditions(self):
        writer = {(op["u"], op["jid"], self.place_of[id(op)]): op for op in self.writes("ok")
                  if id(op) in self.place_of and self.is_marked(op)}
        for op in self.writes("ok", "fail"):
            given = (op.get("cond") or {}).get("if_match")
            since, until = split(given), split(op.get("hver"))
            if not since or not until or since[0] != until[0]:
                continue
            canon = self.canons.get((op["u"], since[0]))
            seqs = canon.changed_between(op["jid"], since[1], until[1]) if canon else []
            if op["out"] == "ok":
                self.check_unbroken(op, canon, seqs, writer)
            elif op["status"] == 412 and not seqs and all(
                    seq in canon.changes for seq in range(since[1] + 1, until[1] + 1)):
                state = canon.states.get(since[1])
                if state is not None and op["jid"] in state:
                    self.report("false-412", op["u"], op["e"],
                                f"{op['op']} {op['jid']} If-Match {given}: nothing changed")

    def check_unbroken(self, op, canon, seqs, writer):
        """If-Match held: no write that was through before, or equally conditional, lies between."""
        own = self.place_of.get(id(op), -1)
        for seq in seqs:
            place = canon.places.get(seq)
            if place is None or place >= own:
                return
            other = writer.get((op["u"], op["jid"], place))
            if other is not None and (other["e"] < op["s"] or "if_match" in (other.get("cond") or {})):
                self.report("lost-update", op["u"], op["e"],
                            f"{op['op']} {op['jid']} If-Match {op['cond']['if_match']} passed over "
                            f"{canon.prefix}-{seq}")
                return

    # --- real-time order ------------------------------------------------------------------------
    def check_order(self):
        """Read your writes, and no read older than one that ended before it began."""
        events = []  # (time, 0 begin | 1 end, number, what)
        for number, seen in enumerate(self.observations()):
            if seen["s"] is not None:
                events.append((seen["s"], 0, number, seen))
            events.append((seen["e"], 1, number, seen))
        events.sort(key=lambda event: event[:3])
        versions, places = defaultdict(dict), defaultdict(dict)
        for _, end, _, seen in events:
            user = seen["u"]
            if not end:
                seen["floor"] = (dict(versions[user]), dict(places[user]))
                continue
            if seen["s"] is not None:
                self.check_floor(seen)
            parts = split(seen["ver"])
            if parts:
                versions[user][parts[0]] = max(versions[user].get(parts[0], 0), parts[1])
            for jid, place in seen["raise"].items():
                if place is not None:
                    places[user][jid] = max(places[user].get(jid, 0), place)

    def observations(self):
        """Everything seen: s and e, version, values per JID, positions it proves."""
        for record in self.records:
            if record["k"] == "ev" and record["ev"] in ("roster.set", "roster.remove"):
                data = record["data"]
                jid = data["item"]["jid"] if "item" in data else data["jid"]
                parts = split(record["id"])
                canon = self.canons.get((record["u"], parts[0])) if parts else None
                # Under a reused id another change may stand: it says nothing about this JID.
                known = canon is not None and canon.changes[parts[1]][0] == jid
                place = canon.places.get(parts[1]) if known else None
                yield {"u": record["u"], "s": None, "e": record["t"], "ver": record["id"],
                       "raise": {jid: place}}
            elif record["k"] == "op" and record["op"] in READS | WRITES and record.get("hver"):
                yield self.observation(record)
        for stream in self.held.values():
            for start, end, version in stream.get("syncs", ()):
                yield self.seen(stream["u"], start, end, version,
                                self.state_at(stream["u"], version), "the stream")

    def observation(self, op):
        status, state, partial = op["status"], None, None
        if op["op"] == "get":
            version = op["ver"] if status == 200 else op["cond"]["inm"] if status == 304 else None
            state = self.state_at(op["u"], version)
        elif op["op"] == "changes" and status == 200:
            version = op["ver"]
            state = None if op["more"] else self.state_at(op["u"], version)
            version = None if op["more"] else version
        else:
            version = op["hver"]
            if op["op"] == "get-item" and status in (200, 404):
                partial = {op["jid"]: value_of(op.get("item")) if status == 200 else None}
        seen = self.seen(op["u"], op["s"], op["e"], version, state, op["op"], partial)
        seen["fresh"] = op.get("fresh") and status == 200 and not op.get("stale")
        if id(op) in self.place_of:
            seen["raise"][op["jid"]] = self.place_of[id(op)]
        return seen

    def seen(self, user, start, end, version, state, what, partial=None):
        account = self.accounts[user]
        if state is not None:
            partial = {jid: state.get(jid) for jid in set(account.registers) | set(state)}
        values = partial or {}
        return {"u": user, "s": start, "e": end, "ver": version, "values": values, "what": what,
                "raise": {jid: account.register(jid).first(value) for jid, value in values.items()}}

    def check_floor(self, seen):
        versions, places = seen["floor"]
        user, parts = seen["u"], split(seen["ver"])
        if parts and parts[1] < versions.get(parts[0], 0):
            self.report("stale-read", user, seen["e"],
                        f"{seen['what']} begun at {seen['s']:.3f} gave {seen['ver']}, "
                        f"but {versions[parts[0]]} was seen before")
        account = self.accounts[user]
        for jid, value in seen["values"].items():
            register = account.register(jid)
            low = places.get(jid, 0)
            if seen.get("fresh"):
                low = max(low, register.at_time(seen["s"]))
            last = register.last(value)
            if last is None:
                self.report("invented", user, seen["e"], f"{seen['what']}: {jid} {value}")
            elif last < low:
                self.report("stale-read", user, seen["e"],
                            f"{seen['what']} begun at {seen['s']:.3f} shows {jid} as {value}, "
                            f"older than {value_of(register.items[low])}")

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
        for op in self.records:
            if op["k"] == "op" and op.get("final") and op["u"] in self.finals:
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
