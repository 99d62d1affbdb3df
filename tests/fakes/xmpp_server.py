"""A scriptable XMPP server for one domain. By default it behaves well; a test makes any moment go wrong
by a hook, or sends what it likes with push(), Session.send() and the scripts in misbehaviour.py.

    server.hook("roster_get", fn, times=1)     fn(session, stanza) -> True: dealt with, no default

Hook names: connect, open, starttls, auth, bind, roster_get, roster_set, iq, presence, message, stanza
(before all others), close. Hooks run on the reactor's thread; everything else is called from the test's
thread. Every stanza that comes in is recorded in server.stanzas (Record), whoever answered it."""
import base64
import itertools
import random
import socket
import xml.etree.ElementTree as ET

from .roster_model import Account, Item, removal
from .sasl import MECHANISMS, Refused
from .support import PASSWORD, Reactor, Recorder, wait_until
from .xmpp_stream import BIND, ROSTER, SASL, STANZAS, STREAM, STREAMS, TLS, XmlStream, attrs, tag


class Record:
    """One stanza that the gateway sent."""

    def __init__(self, session, element):
        self.session = session
        self.user = session.user
        self.element = element
        self.kind = element.tag.rpartition("}")[2]
        self.type = element.get("type")
        self.id = element.get("id")
        self.query = element.find(tag("query", ROSTER))

    @property
    def is_roster_get(self):
        return self.kind == "iq" and self.type == "get" and self.query is not None

    @property
    def is_roster_set(self):
        return self.kind == "iq" and self.type == "set" and self.query is not None

    @property
    def items(self):
        return [] if self.query is None else self.query.findall(tag("item", ROSTER))

    @property
    def ver(self):
        return None if self.query is None else self.query.get("ver")

    def __repr__(self):
        return f"<{self.user}: {ET.tostring(self.element, encoding='unicode')[:300]}>"


class Session(XmlStream):
    """One connection of the gateway."""

    def __init__(self, server):
        super().__init__()
        self.server = server
        self.user = None            # local part once SASL has succeeded
        self.resource = None
        self.interested = False     # has asked for the roster
        self.presence = None        # the last presence without `to`
        self.mechanism = None
        self.opened = 0
        self.received = []          # Records of this session

    def __repr__(self):
        return f"<session {self.user}/{self.resource}{' closed' if self.closed else ''}>"

    @property
    def jid(self):
        return f"{self.user}@{self.server.domain}/{self.resource}"

    @property
    def bare(self):
        return f"{self.user}@{self.server.domain}"

    @property
    def account(self):
        return self.server.accounts[self.user]

    @property
    def bound(self):
        return self.resource is not None and not self.closed

    # --- called from tests ----------------------------------------------------------------------
    def send(self, data):
        """Any text or bytes, as they are."""
        self.server.reactor.call(self.write, data)

    def cut(self, reset=False):
        self.server.reactor.call(self.drop, reset)

    def later(self, seconds, fn, *args):
        """From hooks: fn(*args) after a while, unless the connection is gone by then."""
        self.server.reactor.loop.call_later(seconds, lambda: self.closed or fn(*args))

    # --- stream ---------------------------------------------------------------------------------
    def connected(self):
        self.server.sessions.append(self)
        self.server.connects.add(self)
        self.server.run_hook("connect", self, None)

    def lost(self):
        if self in self.server.sessions:
            self.server.sessions.remove(self)
        self.server.stanzas.poke()
        self.server.closes.add(self)

    def tls_failed(self, error):
        self.server.tls_errors.add(str(error))

    def not_well_formed(self, error, data):
        self.server.parse_errors.add((str(error), data[:200]))
        super().not_well_formed(error, data)

    def stream_opened(self, attributes):
        self.opened += 1
        if self.server.run_hook("open", self, attributes):
            return
        self.write("<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='%s'"
                   " version='1.0' id='s%d' from='%s'>" % (STREAM, random.getrandbits(40),
                                                           self.server.domain))
        self.write("<stream:features>%s</stream:features>" % self.features())

    def features(self):
        server = self.server
        if server.tls and self.tls is None:
            return f"<starttls xmlns='{TLS}'><required/></starttls>"
        if self.user is None:
            names = "".join(f"<mechanism>{name}</mechanism>" for name in server.mechanisms)
            return f"<mechanisms xmlns='{SASL}'>{names}</mechanisms>"
        features = f"<bind xmlns='{BIND}'/>"
        if server.rosterver:
            features += "<ver xmlns='urn:xmpp:features:rosterver'/>"
        if server.preapproval:
            features += "<sub xmlns='urn:xmpp:features:pre-approval'/>"
        return features

    def stream_closed(self):
        if self.server.run_hook("close", self, None):
            return
        self.write("</stream:stream>")
        self.drop()

    def stanza(self, element):
        record = Record(self, element)
        self.received.append(record)
        # Before it is answered: who has seen the answer finds what caused it.
        self.server.stanzas.add(record)
        if not self.server.run_hook("stanza", self, element):
            self._dispatch(element, record)

    def _dispatch(self, element, record):
        if element.tag == tag("starttls", TLS):
            self._default("starttls", element, self.answer_starttls)
        elif element.tag in (tag("auth", SASL), tag("response", SASL)):
            self._default("auth", element, self.answer_auth)
        elif self.user is None:
            self.stream_error("not-authorized")
        elif element.find(tag("bind", BIND)) is not None:
            self._default("bind", element, self.answer_bind)
        elif record.is_roster_get:
            self._default("roster_get", element, self.answer_roster_get)
        elif record.is_roster_set:
            self._default("roster_set", element, self.answer_roster_set)
        elif record.kind == "presence":
            self._default("presence", element, self.take_presence)
        elif record.kind == "message":
            self._default("message", element, lambda _: None)
        else:
            self._default("iq", element, self.answer_iq)

    def _default(self, name, element, fn):
        if not self.server.run_hook(name, self, element):
            fn(element)

    # --- sign-in --------------------------------------------------------------------------------
    def answer_starttls(self, _element):
        self.write(f"<proceed xmlns='{TLS}'/>")
        self.start_tls(self.server.certificate.server_context())

    def answer_auth(self, element):
        if element.tag == tag("auth", SASL):
            name = element.get("mechanism")
            if name not in self.server.mechanisms:
                return self.sasl_failure("invalid-mechanism")
            self.mechanism = MECHANISMS[name](self.server.password_of)
        try:
            text = (element.text or "").strip()
            done, answer = self.mechanism.step(b"" if text == "=" else base64.b64decode(text))
        except Refused as refused:
            self.server.refusals.add((self.mechanism.user, str(refused)))
            return self.sasl_failure(str(refused))
        body = base64.b64encode(answer).decode() if answer else ""
        if done:
            self.user = self.mechanism.user
            self.fresh_parser()
            self.server.signed_in.add(self)     # before the answer, as with stanzas
            self.write(f"<success xmlns='{SASL}'>{body}</success>")
        else:
            self.write(f"<challenge xmlns='{SASL}'>{body}</challenge>")
        return None

    def sasl_failure(self, condition):
        self.write(f"<failure xmlns='{SASL}'><{condition}/></failure>")

    def answer_bind(self, element):
        wanted = element.find(f"{tag('bind', BIND)}/{tag('resource', BIND)}")
        self.resource = (wanted.text if wanted is not None and wanted.text
                         else "r%08x" % random.getrandbits(32))
        self.result(element, f"<bind xmlns='{BIND}'><jid>{self.jid}</jid></bind>")

    # --- answers --------------------------------------------------------------------------------
    def result(self, element, body=""):
        self.write(f"<iq type='result'{attrs(id=element.get('id'), to=self.server.result_to(self))}"
                   + (f">{body}</iq>" if body else "/>"))

    def error(self, element, condition, kind="cancel", text=None):
        said = f"<text xmlns='{STANZAS}'>{text}</text>" if text else ""
        self.write(f"<iq type='error'{attrs(id=element.get('id'))}><error type='{kind}'>"
                   f"<{condition} xmlns='{STANZAS}'/>{said}</error></iq>")

    def stream_error(self, condition, text=None):
        said = f"<text xmlns='{STREAMS}'>{text}</text>" if text else ""
        self.write(f"<stream:error><{condition} xmlns='{STREAMS}'/>{said}</stream:error>"
                   "</stream:stream>")
        self.drop()

    def answer_roster_get(self, element):
        self.interested = True
        account, ver = self.account, element.find(tag("query", ROSTER)).get("ver")
        if account.items is None:
            return self.error(element, "item-not-found")
        now = self.server.ver_of(account)
        if self.server.rosterver and ver is not None and now is not None and ver == now:
            return self.result(element)
        return self.result(element, self.server.roster_xml(account))

    def answer_roster_set(self, element):
        items = element.find(tag("query", ROSTER)).findall(tag("item", ROSTER))
        if len(items) != 1 or not items[0].get("jid"):
            return self.error(element, "bad-request", "modify")
        jid, account = items[0].get("jid"), self.account
        if items[0].get("subscription") == "remove":
            removed = account.remove(jid)
            if removed is None:
                return self.error(element, "item-not-found", "modify")
            self.server.unsubscribe_removed(self.bare, removed)
            pushed = removal(jid)
        else:
            groups = [group.text or "" for group in items[0].findall(tag("group", ROSTER))]
            pushed = account.set_by_client(jid, items[0].get("name"), groups)
        if self.server.order == "push-first":
            self.server.push_now(self.user, pushed)
            self.result(element)
        else:
            self.result(element)
            self.server.push_now(self.user, pushed)
        return None

    def answer_iq(self, element):
        if element.get("type") in ("get", "set"):
            self.error(element, "service-unavailable")

    def take_presence(self, element):
        if element.get("to") is None:
            self.presence = element
            if element.get("type") is None:
                for stanza in self.server.pending_requests(self.user):
                    self.write(stanza)
        else:
            self.server.route_presence(self, element)


class FakeServer:
    """Listens as soon as it is made; close() ends it."""

    def __init__(self, certificate=None, domain="example.com", port=0):
        self.reactor = Reactor.shared()
        self.domain = domain
        self.certificate = certificate
        self.tls = certificate is not None
        self.mechanisms = ["SCRAM-SHA-1", "PLAIN"]
        self.rosterver = True
        self.preapproval = True
        self.ver_how = "counter"          # counter, hash, constant, none (roster_model.Account.ver)
        self.order = "result-first"       # or push-first
        self.pushes = True                # False: sets are not pushed
        self.push_from = None             # None, or a function of the session
        self.result_to = lambda session: session.jid
        self.accounts = {}
        self.sessions = []
        self.stanzas = Recorder()
        self.connects = Recorder()
        self.closes = Recorder()
        self.signed_in = Recorder()
        self.refusals = Recorder()
        self.tls_errors = Recorder()
        self.parse_errors = Recorder()
        self._hooks = {}
        self._ids = itertools.count(1)
        self._server = None
        self.port = port
        self.listen()

    # --- listening ------------------------------------------------------------------------------
    def listen(self):
        """(Again) accepts connects, on the same port."""

        async def start():
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # so that asyncio sets NODELAY
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", self.port))
            sock.listen(1024)
            self.port = sock.getsockname()[1]
            return await self.reactor.loop.create_server(lambda: Session(self), sock=sock)

        self._server = self.reactor.wait(start())

    def refuse(self):
        """Connects are refused from now on; what is open stays."""
        if self._server is not None:
            self.reactor.call(self._server.close)
            self._server = None

    def go_away(self, reset=False):
        """Refuses connects and cuts every stream, as a server that is killed."""
        self.refuse()
        self.cut_all(reset)

    def cut_all(self, reset=False):
        self.reactor.call(lambda: [session.drop(reset) for session in list(self.sessions)])

    close = go_away

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    # --- accounts -------------------------------------------------------------------------------
    def add(self, name, password=PASSWORD, items=()):
        """items None: there is no roster (item-not-found)."""
        self.accounts[name] = Account(name, password, items)
        return self.accounts[name]

    def password_of(self, name):
        account = self.accounts.get(name)
        return None if account is None else account.password

    def ver_of(self, account):
        return account.ver(self.ver_how if self.rosterver else "none")

    def roster_xml(self, account):
        items = "".join(item.xml() for item in account.items.values())
        return f"<query xmlns='{ROSTER}'{attrs(ver=self.ver_of(account))}>{items}</query>"

    def sessions_of(self, name):
        """Bound sessions."""
        return [session for session in list(self.sessions) if session.user == name and session.bound]

    # --- hooks ----------------------------------------------------------------------------------
    def hook(self, name, fn, times=None):
        """fn(session, element) runs before the default; a true answer replaces it. times: after so
        many true answers the hook is gone."""
        entry = [fn, times]
        self._hooks.setdefault(name, []).append(entry)
        return lambda: self._hooks[name].remove(entry) if entry in self._hooks[name] else None

    def run_hook(self, name, session, element):
        for entry in list(self._hooks.get(name, ())):
            if entry[0](session, element):
                if entry[1] is not None:
                    entry[1] -= 1
                    if entry[1] <= 0 and entry in self._hooks[name]:
                        self._hooks[name].remove(entry)
                return True
        return False

    def clear_hooks(self):
        self._hooks.clear()

    # --- pushes ---------------------------------------------------------------------------------
    _SAME = object()

    def push_now(self, name, item, ver=_SAME):
        """On the reactor's thread: pushes item to every interested session of the account."""
        if not self.pushes:
            return []
        if ver is self._SAME:
            ver = self.ver_of(self.accounts[name])
        ids = []
        for session in self.sessions_of(name):
            if session.interested:
                ids.append(self.push_to(session, item.xml(), ver))
        return ids

    def push_to(self, session, items_xml, ver=None, from_=None, id_=None):
        id_ = id_ or f"push{next(self._ids)}"
        if from_ is None and self.push_from is not None:
            from_ = self.push_from(session)
        session.write(f"<iq type='set'{attrs(id=id_, from_=from_, to=session.jid)}>"
                      f"<query xmlns='{ROSTER}'{attrs(ver=ver)}>{items_xml}</query></iq>")
        return id_

    def change(self, name, item, ver=_SAME):
        """Another client of the account changes the roster: stored and pushed. Item with
        subscription 'remove' removes. Returns the ids of the pushes."""

        def run():
            account = self.accounts[name]
            if item.subscription == "remove":
                account.remove(item.jid)
            else:
                account.put(item)
            return self.push_now(name, item, ver)

        return self.reactor.call(run)

    def push_raw(self, name, items_xml, **how):
        """A push with any inside to every session of the account, nothing stored. Returns the ids."""
        return self.reactor.call(lambda: [self.push_to(session, items_xml, **how)
                                          for session in self.sessions_of(name)])

    # --- presence between the accounts of this server --------------------------------------------
    def pending_requests(self, name):
        return [f"<presence type='subscribe' from='{jid}' to='{name}@{self.domain}'/>"
                for jid in sorted(self.accounts[name].incoming)]

    def route_presence(self, session, element):
        """Subscription stanzas move both rosters as RFC 6121 section 3 says; to strangers they go
        nowhere."""
        kind, to = element.get("type"), element.get("to")
        account, me = session.account, session.bare
        moves = {"subscribe": ("to", None), "unsubscribe": ("to", False),
                 "subscribed": ("from", True), "unsubscribed": ("from", False)}
        if kind not in moves:
            return
        direction, on = moves[kind]
        if kind == "subscribe":
            old = (account.items or {}).get(to)
            if old is not None and old.subscription in ("to", "both"):
                return
            pushed = account.put(Item(to, old.name if old else None, old.groups if old else (),
                                      old.subscription if old else "none", "subscribe",
                                      old.approved if old else None))
        else:
            if kind == "subscribed" and to not in account.incoming:
                return
            account.incoming.discard(to)
            pushed = account.move(to, direction, on, create=kind == "subscribed")
        if pushed is not None:
            self.push_now(session.user, pushed)
        self._receive(me, to, kind)

    def unsubscribe_removed(self, owner, removed):
        """RFC 6121 2.5.2 and 2.5.3: the server itself ends both directions."""
        if removed.subscription in ("to", "both"):
            self._receive(owner, removed.jid, "unsubscribe")
        if removed.subscription in ("from", "both"):
            self._receive(owner, removed.jid, "unsubscribed")

    def _receive(self, sender, to, kind):
        name, _, domain = to.partition("@")
        other = self.accounts.get(name)
        if domain != self.domain or other is None:
            return
        pushed = None
        if kind == "subscribe":
            other.incoming.add(sender)
        elif kind == "subscribed":
            pushed = other.move(sender, "to", True)
        elif kind == "unsubscribed":
            pushed = other.move(sender, "to", False)
        else:
            other.incoming.discard(sender)
            pushed = other.move(sender, "from", False)
        if pushed is not None:
            self.push_now(name, pushed)
        for session in self.sessions_of(name):
            if session.presence is not None and session.presence.get("type") is None:
                session.write(f"<presence type='{kind}' from='{sender}' to='{to}'/>")

    # --- what the gateway did -------------------------------------------------------------------
    def sets(self, name=None):
        return [r for r in self.stanzas.all() if r.is_roster_set and name in (None, r.user)]

    def gets(self, name=None):
        return [r for r in self.stanzas.all() if r.is_roster_get and name in (None, r.user)]

    def presences(self, name=None):
        return [r for r in self.stanzas.all() if r.kind == "presence" and name in (None, r.user)]

    def acknowledged(self, id_):
        return [r for r in self.stanzas.all() if r.kind == "iq" and r.id == id_
                and r.type == "result"]

    def wait_acknowledged(self, *ids):
        for id_ in ids:
            self.stanzas.wait_for(lambda r: r.kind == "iq" and r.id == id_ and r.type == "result",
                                  what=f"answer to push {id_}")

    def wait_session(self, name, timeout=10):
        """The (next) bound session of the account that has asked for its roster."""
        return wait_until(lambda: next((s for s in self.sessions_of(name) if s.interested), None),
                          timeout, f"session of {name}")
