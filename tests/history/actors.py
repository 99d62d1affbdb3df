"""Those who act in a history: HTTP writers, event-stream readers, the XMPP witness. Each has its own
random source, drawn from the seed and its name; each records what it did and what it saw."""
import asyncio
import random
from urllib.parse import quote

from rest import Client, EventStream, Lost
from xmpp import XmppClient, XmppError

PEERS = 8  # JIDs an account plays with
GROUPS = ["Friends", "Servants", "Ärzte & Söhne", "<Family>", "\"quoted\"", "日本"]
ANSWER_LIMIT = 20  # seconds; the checker complains much earlier


class User:
    """An account: tag (`ua`), where it lives, the JIDs it plays with."""

    def __init__(self, tag, local, domain, password):
        self.tag, self.local, self.domain, self.password = tag, local, domain, password
        self.jid = f"{local}@{domain}"
        self.peers = [f"c{number}.{tag}@peer.test" for number in range(PEERS - 1)]
        self.peers.append(f"icq.{tag}.peer.test")


class Actor:
    def __init__(self, world, user, name):
        self.world, self.user = world, user
        self.name = f"{user.tag}.{name}"
        self.rng = random.Random(f"{world.seed}/{self.name}")
        self.made = 0

    def fresh_name(self):
        """A name nobody else writes; it begins with the writer's name, so its owner is known."""
        self.made += 1
        return f"{self.name}.{self.made}" + self.rng.choice(["", "", " Ω", " <&>", " 'q' \"p\"", " 🦊"])

    def groups(self, tagged):
        chosen = set(self.rng.sample(GROUPS, self.rng.choice([0, 1, 1, 2])))
        if tagged:
            self.made += 1
            chosen.add(f"{self.name}.{self.made}")
        return sorted(chosen)

    def whole(self):
        """Name and groups for a set, at least one of them unique."""
        if self.rng.random() < 0.12:
            return {"name": None, "groups": self.groups(True)}
        return {"name": self.fresh_name(), "groups": self.groups(self.rng.random() < 0.3)}

    async def pause(self, mean):
        await asyncio.sleep(min(self.rng.expovariate(1 / mean), mean * 5))


class Witness(Actor):
    """Writes over XMPP and sees all that the server does, in its order."""

    def __init__(self, world, user):
        super().__init__(world, user, "x")
        self.items = {}
        self.client = XmppClient(user.local, user.domain, user.password, self.pushed)

    async def start(self, port):
        await self.client.connect("127.0.0.1", port)
        self.items = await self.client.roster()
        self.world.recorder.add("wit0", u=self.user.tag, t=self.world.recorder.now(),
                                items=list(self.items.values()))
        for _ in range(self.rng.choice([0, 0, 2, 6])):
            await self.write("xset", self.rng.choice(self.user.peers))

    def pushed(self, jid, item):
        if item is None:
            self.items.pop(jid, None)
        else:
            self.items[jid] = item
        self.world.recorder.add("wit", u=self.user.tag, t=self.world.recorder.now(), jid=jid, item=item)

    async def run(self):
        while not self.world.resting.is_set():
            await self.pause(self.world.options.witness_pause)
            if self.world.resting.is_set():
                break
            kind = self.rng.choices(["xset", "xremove", "xsub"], [60, 25, 15])[0]
            await self.write(kind, self.rng.choice(self.user.peers))

    async def write(self, kind, jid):
        record = {"u": self.user.tag, "c": self.name, "op": kind, "jid": jid,
                  "s": self.world.recorder.now(), "out": "ok"}
        if kind == "xset":
            record["set"] = self.whole()
        try:
            if kind == "xset":
                await self.client.set_item(jid, record["set"]["name"], record["set"]["groups"])
            elif kind == "xremove":
                await self.client.remove_item(jid)
            else:
                self.client.subscribe(jid, self.rng.choice(["subscribe", "unsubscribe"]))
        except XmppError as error:
            record.update(out="fail", err=str(error))
        self.world.recorder.add("op", e=self.world.recorder.now(), **record)

    async def finish(self):
        """The roster at rest, as the server gives it."""
        items = await self.client.roster()
        self.world.recorder.add("final", u=self.user.tag, t=self.world.recorder.now(),
                                items=list(items.values()))


class Writer(Actor):
    """A web client that reads and writes."""

    PLAN = {"put": 30, "patch": 14, "delete": 12, "get": 20, "fresh": 2, "get-item": 9, "changes": 9,
            "renew": 1}

    def __init__(self, world, user, number):
        super().__init__(world, user, f"w{number}")
        self.clients = {}  # instance -> (its Client, the life it is linked to)
        self.gateway = None
        self.token = None
        self.version = None
        self.older = []
        self.etags = {}

    def link(self, gateway):
        """A keep-alive connection to one instance, and the life of it that this connection leads to."""
        client, life = self.clients.get(gateway.name, (None, None))
        if client is None:
            client = Client("127.0.0.1", gateway.port, ANSWER_LIMIT)
        if client.link is None:
            life = gateway.life
        self.clients[gateway.name] = (client, life)
        return client, life

    async def ask(self, op, method, path, body=None, headers=None, at=None, **fields):
        """Sends a request to an instance (`at`: to this one), notes its begin and end, judges its
        outcome; returns (answer, record)."""
        self.gateway = at or self.world.fleet.choose(self.rng, self.gateway)
        client, life = self.link(self.gateway)
        record = {"u": self.user.tag, "c": self.name, "g": life, "op": op, "s": self.world.recorder.now(),
                  **fields}
        client.token = self.token
        try:
            answer = await client.ask(method, path, body, headers or {})
        except Lost as lost:
            answer = None
            record.update(out="unknown", err=str(lost))
        record["e"] = self.world.recorder.now()
        if answer is not None:
            version = answer.headers.get("rostergate-version")
            record.update(status=answer.status, code=answer.code, hver=version,
                          out="ok" if answer.status < 400 else
                          "unknown" if answer.status in (500, 502, 504) else "fail",
                          stale="stale" in answer.headers.get("cache-status", ""))
        return answer, record

    def note(self, record):
        self.world.recorder.add("op", **record)

    async def sign_in(self, judged=True):
        answer, record = await self.ask("sign-in", "POST", "/v1/session",
                                        {"jid": self.user.jid, "password": self.user.password})
        good = answer is not None and answer.status == 201
        if judged or good:
            self.note(record)
        return answer.json()["token"] if good else None

    async def start(self):
        """All sign in at once, some over TLS, into processes that have just begun: nothing is judged yet."""
        self.token, by = None, self.world.recorder.now() + 30
        while self.token is None and self.world.recorder.now() < by:
            self.token = await self.sign_in(judged=False)
        if self.token is None:
            raise RuntimeError(f"{self.name} could not sign in before the first fault")

    async def run(self):
        kinds, weights = list(self.PLAN), list(self.PLAN.values())
        while not self.world.resting.is_set():
            await self.pause(self.world.options.pause)
            if self.world.resting.is_set():
                break
            kind = self.rng.choices(kinds, weights)[0]
            await getattr(self, "do_" + kind.replace("-", "_"))()

    def path(self, jid):
        shown = jid.upper() if self.rng.random() < 0.1 else jid
        return "/v1/roster/items/" + quote(shown, safe=self.rng.choice(["@", ""]))

    def condition(self, jid, create):
        """Headers and what the checker must know of them."""
        draw = self.rng.random()
        known = self.etags.get(jid) if self.rng.random() < 0.7 else self.version
        if draw < 0.2 and known:
            return {"If-Match": f'"{known}"'}, {"if_match": known}
        if draw < 0.27 and create:
            return {"If-None-Match": "*"}, {"if_none": "*"}
        return {}, None

    async def write(self, op, method, body, headers, wanted):
        jid = self.rng.choice(self.user.peers)
        conditions, cond = self.condition(jid, op == "put")
        fields = {"jid": jid, "cond": cond}
        if wanted is not None:
            fields["set"] = wanted
        answer, record = await self.ask(op, method, self.path(jid), body, {**headers, **conditions},
                                        **fields)
        data = answer.json() if answer is not None and answer.status in (200, 201) else None
        if data:
            record.update(ver=data.get("version"), item=data.get("item"))
            if self.rng.random() < 0.5:
                self.etags[jid] = data.get("version")
        self.note(record)

    async def do_put(self):
        wanted = self.whole()
        body = dict(wanted)
        if wanted["name"] is None and self.rng.random() < 0.5:
            del body["name"]
        body["groups"] = self.rng.sample(wanted["groups"], len(wanted["groups"]))
        await self.write("put", "PUT", body, {}, wanted)

    async def do_patch(self):
        draw = self.rng.random()
        wanted = {"name": self.fresh_name()} if draw < 0.45 else \
            {"groups": self.groups(True)} if draw < 0.85 else {"name": None}
        await self.write("patch", "PATCH", wanted, {"Content-Type": "application/merge-patch+json"}, wanted)

    async def do_delete(self):
        await self.write("delete", "DELETE", None, {}, None)

    async def read_roster(self, headers=None, **fields):
        answer, record = await self.ask("get", "GET", "/v1/roster", headers=headers, **fields)
        if answer is not None and answer.status == 200:
            data = answer.json()
            record.update(ver=data["version"], items=data["items"], etag=answer.headers.get("etag"))
            self.older = (self.older + [data["version"]])[-12:]
            self.version = data["version"]
        self.note(record)
        return record

    async def do_get(self):
        if self.older and self.rng.random() < 0.5:
            version = self.version if self.rng.random() < 0.7 else self.rng.choice(self.older)
            form = self.rng.choice(['"{}"', 'W/"{}"', '"{}+gzip"', '"other", "{}"'])
            await self.read_roster({"If-None-Match": form.format(version)}, cond={"inm": version})
        else:
            await self.read_roster()

    async def do_fresh(self):
        await self.read_roster({"Cache-Control": "no-cache"}, fresh=True)

    async def do_get_item(self):
        jid = self.rng.choice(self.user.peers)
        answer, record = await self.ask("get-item", "GET", self.path(jid), jid=jid)
        if answer is not None and answer.status == 200:
            data = answer.json()
            etag = (answer.headers.get("etag") or "").strip('"')
            record.update(ver=data["version"], item=data["item"], etag=etag)
            self.etags[jid] = etag
        self.note(record)

    async def do_changes(self):
        if not self.older:
            return await self.do_get()
        since = self.rng.choice(self.older)
        limit = self.rng.choice(["", "", "&limit=1", "&limit=5"])
        answer, record = await self.ask("changes", "GET", f"/v1/roster/changes?since={since}{limit}",
                                        since=since)
        if answer is not None and answer.status == 200:
            data = answer.json()
            record.update(ver=data["version"], more=data["more"], changes=data["changes"])
        self.note(record)

    async def do_renew(self):
        """Signs in anew, then ends the old sign-in: the account's session must not notice."""
        token = await self.sign_in()
        if token is None:
            return
        _, record = await self.ask("sign-out", "DELETE", "/v1/session")
        self.note(record)
        self.token = token

    async def agreed(self, items):
        """Does every instance give these items, under one version?"""
        records = [await self.read_roster(at=gateway) for gateway in self.world.fleet.gateways]
        return len({record.get("ver") for record in records}) == 1 and all(
            {item["jid"]: item for item in record.get("items", ())} == items for record in records)

    async def finish(self):
        self.drop()  # a connection may still lead to a process that was killed
        for gateway in self.world.fleet.gateways:
            await self.read_roster(at=gateway, final=True)
        await self.do_changes()
        self.drop()

    def drop(self):
        for client, _ in self.clients.values():
            client.drop()


class Reader(Actor):
    """A web client that follows the event stream, drops it and comes back."""

    def __init__(self, world, user, number):
        super().__init__(world, user, f"s{number}")
        self.items, self.version, self.seen = None, None, []
        self.live = False  # since `sync`
        self.life = None
        self.http = Writer(world, user, 0)
        self.http.name, self.http.rng = self.name, self.rng

    async def start(self):
        await self.http.start()

    def resume(self):
        """(how, id, whether it goes into the header, the items at that id)."""
        draw = self.rng.random()
        if self.version is None or draw < 0.06:
            return ("read" if self.rng.random() < 0.5 else "none"), None, False, None
        if draw < 0.16 and self.seen:
            version, items = self.rng.choice(self.seen)
            return "older", version, True, items
        return "resume", self.version, draw < 0.85, self.items

    async def run(self):
        while not self.world.over.is_set():
            await self.follow()
            if not self.world.resting.is_set():
                await self.pause(0.15)

    async def follow(self):
        how, version, header, items = self.resume()
        if how == "read":
            record = await self.http.read_roster()
            if record.get("status") != 200:
                return
            version = record["ver"]
            items = {item["jid"]: item for item in record["items"]}
        self.gateway = self.world.fleet.choose(self.rng)
        self.life, start = self.gateway.life, self.world.recorder.now()
        stream = EventStream("127.0.0.1", self.gateway.port, self.http.token)
        status, code = None, None
        try:
            query = f"?since={version}" if version and not header else ""
            status, code = await asyncio.wait_for(stream.open(query, version if header else None),
                                                  ANSWER_LIMIT)
        except (OSError, EOFError, ValueError, asyncio.TimeoutError) as error:
            code = repr(error)
        self.world.recorder.add("conn", u=self.user.tag, c=self.name, g=self.life, t=start, how=how,
                                status=status, code=code, **{"from": version})
        if status != 200:
            stream.close()
            await self.pause(0.2)
            return
        self.version, self.items = version, items
        by, bye = await self.listen(stream)
        self.live = False
        stream.close()
        if by is not None:
            self.world.recorder.add("drop", u=self.user.tag, c=self.name, g=self.life,
                                    t=self.world.recorder.now(), by=by, bye=bye)

    async def listen(self, stream):
        """Until it is time to drop, the server ends it, or all is over."""
        drop_at = self.world.recorder.now() + min(self.rng.expovariate(1 / 1.5), 8)
        bye = False
        while True:
            if self.world.over.is_set():
                return None, bye
            left = drop_at - self.world.recorder.now()
            if self.world.resting.is_set():
                left = 0.1
            elif left <= 0:
                return "client", bye
            try:
                event = await stream.next_within(min(left, 0.5))
            except (OSError, EOFError, ValueError):
                return "server", bye
            if event is False:
                continue
            if event is None:
                return "server", bye
            bye = bye or event[0] == "bye"
            self.take(*event)

    def take(self, kind, ident, data):
        if kind in ("ping", "subscriptions", "session"):
            return
        self.world.recorder.add("ev", u=self.user.tag, c=self.name, g=self.life,
                                t=self.world.recorder.now(), ev=kind, id=ident, data=data)
        self.live = self.live or kind == "sync"
        if kind == "roster":
            self.items = {item["jid"]: item for item in data["items"]}
        elif kind == "roster.set":
            self.items = {**(self.items or {}), data["item"]["jid"]: data["item"]}
        elif kind == "roster.remove":
            self.items = {jid: item for jid, item in (self.items or {}).items() if jid != data["jid"]}
        if ident:
            self.version = ident
            self.seen = (self.seen + [(ident, self.items)])[-40:]
