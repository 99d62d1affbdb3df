"""Synthetic histories for the checker's own tests: a server, a faultless gateway and its clients in a
few lines, with a switch for each way of going wrong."""
import copy
import random


def item(jid, name, groups=()):
    return {"jid": jid, "name": name, "groups": sorted(groups), "subscription": "none", "ask": None,
            "approved": False}


class Story:
    def __init__(self, users=("ua", "ub")):
        self.records = [{"k": "meta"}]
        self.time, self.made = 0.0, 0
        self.server = {user: {} for user in users}
        self.gateway = {user: {} for user in users}
        self.seq = {user: 0 for user in users}
        self.journal = {user: [] for user in users}
        self.streams = {}  # client -> [user, version it is at]
        self.at = None  # the process asked from now on; streams stay where they were opened
        self.stream_at = {}
        self.marks = {user: [(0, user)] for user in users}  # user -> [(first seq, mark)]
        for user in users:
            self.add("wit0", u=user, t=self.tick(), items=[])

    def tick(self, step=0.01):
        self.time = round(self.time + step, 6)
        return self.time

    def add(self, kind, **fields):
        self.records.append({"k": kind, **copy.deepcopy(fields)})
        return self.records[-1]

    def version(self, user, seq=None):
        seq = self.seq[user] if seq is None else seq
        mark = [mark for first, mark in self.marks[user] if first <= seq][-1]
        return f"e.{mark}-{seq}"

    # --- several instances --------------------------------------------------------------------
    def ask(self, process):
        """The instance that answers from here on, "g1.0"."""
        self.at = process
        return self

    def new_writer(self, user, mark):
        """Somebody else writes the journal: the numbers go on under a new mark."""
        self.marks[user].append((self.seq[user] + 1, mark))

    def fault(self, what, **fields):
        self.add("fault", t=self.tick(), what=what, **fields)

    def healed(self, wait=0):
        """Redis is back; `wait` seconds later the story goes on."""
        self.add("healed", t=self.tick(), what="redis")
        self.tick(wait)

    def kill(self, process):
        """An instance dies, its streams with it."""
        self.fault("gateway-kill", g=process)
        for client in [client for client, at in self.stream_at.items() if at == process]:
            if client in self.streams:
                self.drop(client, by="server")

    # --- the server ---------------------------------------------------------------------------
    def store(self, user, jid, value):
        if value is None:
            self.server[user].pop(jid, None)
        else:
            self.server[user][jid] = value
        self.add("wit", u=user, t=self.tick(), jid=jid, item=value)

    # --- the gateway --------------------------------------------------------------------------
    def change(self, user, jid, value, drop_for=()):
        """The gateway takes a push: a new version, an event to every stream but drop_for."""
        if self.gateway[user].get(jid) == value:
            return
        if value is None:
            self.gateway[user].pop(jid, None)
        else:
            self.gateway[user][jid] = value
        self.seq[user] += 1
        self.journal[user].append((self.seq[user], jid, value))
        for client, (owner, _) in list(self.streams.items()):
            if owner == user and client not in drop_for:
                self.event(client, self.seq[user], jid, value)

    def event(self, client, seq, jid, value, user=None):
        owner = self.streams[client][0]
        version = self.version(user or owner, seq)
        data = {"version": version, "jid": jid} if value is None else {"version": version, "item": value}
        self.add("ev", u=owner, c=client, g=self.stream_at[client], t=self.tick(0.001), id=version, data=data,
                 ev="roster.remove" if value is None else "roster.set")
        self.streams[client][1] = seq

    # --- clients ------------------------------------------------------------------------------
    def xset(self, user, jid, value, shown=True):
        """The witness writes; shown: the push reaches the gateway."""
        self.made += 1
        start = self.tick()
        self.store(user, jid, value)
        wanted = {} if value is None else {"set": {"name": value["name"], "groups": value["groups"]}}
        self.add("op", u=user, c=f"{user}.x", op="xremove" if value is None else "xset", jid=jid,
                 s=start, e=self.tick(), out="ok", **wanted)
        if shown:
            self.change(user, jid, value)

    def op(self, user, op, start, status, **fields):
        out = "ok" if status < 400 else "unknown" if status in (502, 504) else "fail"
        fields.setdefault("hver", self.version(user))
        return self.add("op", u=user, c=f"{user}.w", g=self.at, op=op, s=start, e=self.tick(), status=status,
                        code=None, out=out, **fields)

    def put(self, user, jid, name, groups=(), status=200, stored=True, shown=True, cond=None, early=0,
            drop_for=()):
        """A PUT; what it truly did can differ from what it was answered."""
        start, value = self.tick(), item(jid, name, groups)
        wanted = {"name": name, "groups": sorted(groups)}
        if stored and not early:
            self.store(user, jid, value)
        if shown:
            self.change(user, jid, value, drop_for)
        answer = {"ver": self.version(user), "item": value} if status < 400 else {}
        self.op(user, "put", start, status, jid=jid, set=wanted, cond=cond, **answer)
        if early:
            self.tick(early)
            self.store(user, jid, value)

    def delete(self, user, jid, status=204, stored=True, shown=True):
        start = self.tick()
        if stored:
            self.store(user, jid, None)
        if shown:
            self.change(user, jid, None)
        self.op(user, "delete", start, status, jid=jid)

    def get(self, user, items=None, version=None, **fields):
        version = version or self.version(user)
        items = self.gateway[user] if items is None else items
        self.op(user, "get", self.tick(), 200, ver=version, hver=version, etag=f'"{version}"',
                items=[items[jid] for jid in sorted(items)], **fields)

    def not_modified(self, user, version, hver=None):
        self.op(user, "get", self.tick(), 304, cond={"inm": version}, hver=hver or version)

    def connect(self, client, user, since=None):
        """since: seq to resume from."""
        self.stream_at[client] = self.at
        self.add("conn", u=user, c=client, g=self.at, t=self.tick(), status=200,
                 **{"from": None if since is None else self.version(user, since)})
        self.streams[client] = [user, since]
        if since is None:
            self.snapshot(client)
        else:
            for seq, jid, value in self.journal[user]:
                if seq > since:
                    self.event(client, seq, jid, value)
        self.streams[client][1] = self.seq[user]
        self.add("ev", u=user, c=client, g=self.at, t=self.tick(0.001), ev="sync", id=self.version(user),
                 data={"version": self.version(user)})

    def snapshot(self, client, items=None, version=None):
        user = self.streams[client][0]
        version, items = version or self.version(user), self.gateway[user] if items is None else items
        self.add("ev", u=user, c=client, g=self.stream_at[client], t=self.tick(0.001), ev="roster", id=version,
                 data={"version": version, "items": [items[jid] for jid in sorted(items)]})

    def drop(self, client, by="client", bye=False):
        user, seq = self.streams.pop(client)
        self.add("drop", u=user, c=client, g=self.stream_at[client], t=self.tick(), by=by, bye=bye)
        return seq

    def end(self, late=0.1, instances=(None,)):
        self.add("rest", t=self.tick())
        for user, items in self.server.items():
            for jid in sorted(set(items) | set(self.gateway[user])):
                self.tick(late / 10)
                self.change(user, jid, items.get(jid))
            for process in instances:
                self.ask(process).get(user, final=True)
            self.add("final", u=user, t=self.tick(), items=list(items.values()))
        self.add("gateway", t=self.tick(), wrong=[])
        return self.records


def random_story(seed, steps=400, instances=(None,)):
    """A long faultless history: writes, lost links, resumes from old ids, reads of all kinds.
    Returns it not yet ended, so that a test can go on from there."""
    rng, story, at, seen = random.Random(seed), Story(), {}, {}
    for client, user in (("ua.s1", "ua"), ("ua.s2", "ua"), ("ub.s1", "ub")):
        story.connect(client, user)
    for step in range(steps):
        user = rng.choice(["ua", "ub"])
        jid, name = f"c{rng.randrange(6)}.{user}@peer.test", f"{user}.w.{step}"
        if len(instances) > 1:
            story.ask(rng.choice(instances))
            if rng.random() < 0.05:
                story.new_writer(user, f"{user}{step}")
        draw = rng.random()
        if draw < 0.35:
            story.put(user, jid, name, [f"{user}.w.{step}"] if rng.random() < 0.5 else [])
        elif draw < 0.45 and jid in story.server[user]:
            story.delete(user, jid)
        elif draw < 0.60:
            story.xset(user, jid, item(jid, name), shown=rng.random() < 0.7)
        elif draw < 0.68:  # the link comes back: a full answer, its difference one change each
            for other in sorted(set(story.server[user]) | set(story.gateway[user])):
                story.change(user, other, story.server[user].get(other))
        elif draw < 0.72:
            story.put(user, jid, name, status=504, stored=rng.random() < 0.5, shown=False)
        elif draw < 0.80:
            story.get(user)
            story.not_modified(user, story.version(user))
        elif draw < 0.90:
            client = rng.choice(["ua.s1", "ua.s2", "ub.s1"])
            if client in story.streams:
                at[client] = (story.streams[client][0], story.drop(client))
                seen.setdefault(client, []).append(at[client][1])
            else:
                owner, seq = at[client]
                story.connect(client, owner, rng.choice([seq, seq, rng.choice(seen[client]), None]))
    for client, (owner, seq) in at.items():
        if client not in story.streams:
            story.connect(client, owner, seq)
    return story
