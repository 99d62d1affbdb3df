"""The rules of writes: what was acknowledged is there, what was refused is not, conditions hold."""
from model import SLACK, WRITES, owners_of, split, value_of


class Writes:
    """Part of the Checker. `place_of` says which of the server's states a write made."""

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
        state = self.versions.state_at(op["u"], op["ver"])
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
            canon = self.versions.canons.get((op["u"], since[0]))
            seqs = canon.changed_between(op["jid"], since[1], until[1]) if canon else []
            if op["out"] == "ok":
                self.check_unbroken(op, canon, seqs, writer)
            elif op["status"] == 412 and not seqs and all(
                    seq in canon.changes for seq in range(since[1] + 1, until[1] + 1)):
                state = canon.states.get(since[1])
                if state is not None and op["jid"] in state and not self.may_not_know(op, given):
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
            if other is not None and not self.apart(op, other) and \
                    (other["e"] < op["s"] or "if_match" in (other.get("cond") or {})):
                self.report("lost-update", op["u"], op["e"],
                            f"{op['op']} {op['jid']} If-Match {op['cond']['if_match']} passed over "
                            f"{canon.prefix}-{seq}")
                return

    def may_not_know(self, op, version):
        """An instance that was on its own may have lost a version that another one gave."""
        return self.health.unwell(op["s"], op["e"]) and \
            self.versions.shown_by.get((op["u"], version), {}).get(op.get("g"), op["e"]) >= op["e"]

    def apart(self, op, other):
        """Were the two writes judged by two processes that could not know of each other?"""
        start, end = op["s"], op["e"]
        if other["e"] >= start:  # at the same time
            start, end = min(start, other["s"]), max(end, other["e"])
        return op.get("g") != other.get("g") and self.health.unwell(start, end)
