"""The rules of one client's stream over all its connections, to whichever instance they went."""
from model import difference, epoch_of, split, value_of


class Streams:
    """Part of the Checker. `held` keeps what each client of the stream holds."""

    def check_streams(self):
        self.held = {}
        for record in self.records:
            if record["k"] == "conn":
                self.stream_opened(record)
            elif record["k"] == "drop" and record["c"] in self.held:
                self.held[record["c"]]["open"] = False
                if record["by"] == "server" and not record["bye"] and \
                        not self.health.was_away(record.get("g"), record["t"], record["t"]):
                    self.report("stream-ended", record["u"], record["t"],
                                f"{record['c']}: the stream ended without bye")
            elif record["k"] == "ev":
                self.stream_event(record)

    def stream_opened(self, record):
        stream = self.held.setdefault(record["c"], {"state": None, "ver": None, "t": 0})
        stream.update(open=record.get("status") == 200, u=record["u"], conn=record, told=False)
        if record.get("status") not in (200, None) and not self.has_nothing(record, record["t"]) and \
                not self.is_behind(record):
            self.report("unexpected-answer", record["u"], record["t"],
                        f"events: {record['status']} {record.get('code')}")
        if not stream["open"]:
            return  # the client still holds what it held
        if record["from"] is None:
            stream.update(state=None, ver=None)
        elif record["from"] != stream["ver"]:
            stream.update(state=self.versions.state_at(record["u"], record["from"]), ver=record["from"])

    def is_behind(self, record):
        """503: a Redis that was rolled back knows less than this client, and without a session a process
        cannot find out the rest; it tells nothing that is older."""
        return record.get("status") == 503 and record.get("code") == "xmpp-unreachable" and \
            record["from"] is not None and self.health.unwell(record["t"], record["t"])

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
            state = {i["jid"]: value_of(i) for i in record["data"]["items"]}
            if stream["told"] and stream["state"] is not None:
                self.stream_replaced(record, stream["state"], state, where)
            stream["state"] = state
        else:
            if was is None:
                self.report("gap", record["u"], record["t"], f"{where}: a change before any roster")
            elif same and now[1] == was[1]:
                self.report("id-repeated", record["u"], record["t"], where)
            elif same and now[1] > was[1] + 1:
                self.report("gap", record["u"], record["t"], where)
            elif now and not same and not self.follows(was, now):
                self.report("gap", record["u"], record["t"], f"{where}: no `roster` between two writers")
            self.stream_change(stream, record["data"])
        stream.update(ver=version, t=record["t"], told=True)

    @staticmethod
    def follows(was, now):
        """Another writer of the same journal goes on with the next number."""
        return epoch_of(was[0]) == epoch_of(now[0]) and now[1] == was[1] + 1

    def stream_replaced(self, record, old, new, where):
        """A `roster` in the middle of a connection, whose events come in the order they were made."""
        if self.health.unwell(record["t"], record["t"]):
            return
        account = self.accounts[record["u"]]
        for jid in sorted(set(old) | set(new)):
            before, after = old.get(jid), new.get(jid)
            register = account.register(jid)
            first, last = register.first(before), register.last(after)
            if before != after and first is not None and last is not None and last < first:
                self.report("went-back", record["u"], record["t"],
                            f"{where} shows {jid} older than before: {after}, was {before}")

    @staticmethod
    def stream_change(stream, data):
        if stream["state"] is not None:
            stream["state"] = dict(stream["state"])
            if "item" in data:
                stream["state"][data["item"]["jid"]] = value_of(data["item"])
            else:
                stream["state"].pop(data["jid"], None)

    def stream_sync(self, record, stream, where):
        stream["told"] = True
        if stream["ver"] is None or record["id"] != stream["ver"] or \
                record["data"]["version"] != record["id"]:
            self.report("gap", record["u"], record["t"], f"{where}: sync is not what was sent")
            return
        known = self.versions.state_at(record["u"], stream["ver"])
        if known is not None and stream["state"] is not None and known != stream["state"]:
            self.report("stream-state", record["u"], record["t"],
                        f"{where}: {difference(stream['state'], known)}")
        stream.setdefault("syncs", []).append(
            (stream["conn"]["t"], record["t"], stream["ver"], record["c"], record.get("g")))
