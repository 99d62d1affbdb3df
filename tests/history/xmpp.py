"""A lean XMPP client of the tests' own, independent of the gateway: the witness.

It signs in with PLAIN on loopback, reads the roster, acknowledges pushes and writes items. Every
push is handed to `on_push` in the order the server sent it: for one account that is the order in
which its roster changed.
"""
import asyncio
import base64
import uuid
from xml.etree.ElementTree import XMLPullParser
from xml.sax.saxutils import escape, quoteattr

CLIENT = "{jabber:client}"
ROSTER = "{jabber:iq:roster}"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
BIND = "urn:ietf:params:xml:ns:xmpp-bind"


class XmppError(Exception):
    """The server refused, or the stream ended."""


def item_of(element):
    """An <item/> in the form of API section 1; None if it was removed."""
    if element.get("subscription") == "remove":
        return None
    groups = {group.text for group in element.findall(ROSTER + "group") if group.text}
    return {
        "jid": element.get("jid"),
        "name": element.get("name") or None,
        "groups": sorted(groups),
        "subscription": element.get("subscription", "none"),
        "ask": "subscribe" if element.get("ask") == "subscribe" else None,
        "approved": element.get("approved") in ("true", "1"),
    }


class XmppClient:
    def __init__(self, local, domain, password, on_push=None):
        self.local, self.domain, self.password = local, domain, password
        self.on_push = on_push or (lambda jid, item: None)
        self.waiting = {}
        self.reader = self.writer = self.parser = self.task = None
        self.stanzas = asyncio.Queue()
        self.ended = None

    async def connect(self, host, port):
        self.reader, self.writer = await asyncio.open_connection(host, port)
        await self.open_stream()
        plain = base64.b64encode(f"\0{self.local}\0{self.password}".encode()).decode()
        self.send(f"<auth xmlns='{SASL}' mechanism='PLAIN'>{plain}</auth>")
        answer = await self.next_element()
        if answer.tag != "{%s}success" % SASL:
            raise XmppError("sign-in refused")
        await self.open_stream()
        self.task = asyncio.ensure_future(self.read_on())
        await self.iq("set", f"<bind xmlns='{BIND}'><resource>witness-{uuid.uuid4()}</resource></bind>")

    def send(self, text):
        if self.ended:
            raise XmppError(self.ended)
        self.writer.write(text.encode())

    async def open_stream(self):
        self.parser = XMLPullParser(["start", "end"])
        self.depth = 0
        self.send("<?xml version='1.0'?><stream:stream xmlns='jabber:client' version='1.0' "
                  f"xmlns:stream='http://etherx.jabber.org/streams' to='{self.domain}'>")
        await self.next_element()  # the features

    def parsed(self):
        """Elements right below the stream that are complete."""
        for event, element in self.parser.read_events():
            if event == "start":
                self.depth += 1
                if self.depth == 1:
                    self.root = element
            else:
                self.depth -= 1
                if self.depth == 1:
                    self.root.remove(element)
                    yield element

    async def next_element(self):
        while True:
            for element in self.parsed():
                return element
            data = await asyncio.wait_for(self.reader.read(65536), 20)
            if not data:
                raise XmppError("the stream ended")
            self.parser.feed(data)

    async def read_on(self):
        try:
            while True:
                for element in self.parsed():
                    self.take(element)
                data = await self.reader.read(65536)
                if not data:
                    raise XmppError("the stream ended")
                self.parser.feed(data)
        except asyncio.CancelledError:
            self.ended = "closed"
        except Exception as error:  # whatever ended it, those who wait must learn of it
            self.ended = repr(error)
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(XmppError(self.ended))

    def take(self, element):
        if element.tag != CLIENT + "iq":
            return
        kind, ident = element.get("type"), element.get("id")
        if kind in ("result", "error"):
            future = self.waiting.pop(ident, None)
            if future is not None and not future.done():
                future.set_result(element)
            return
        query = element.find(ROSTER + "query")
        if kind == "set" and query is not None:
            for item in query.findall(ROSTER + "item"):
                self.on_push(item.get("jid"), item_of(item))
            self.send(f"<iq type='result' id={quoteattr(ident)}/>")
        else:
            self.send(f"<iq type='error' id={quoteattr(ident)}><error type='cancel'>"
                      "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")

    async def iq(self, kind, payload):
        """Returns the answer; raises XmppError if it is an error or never comes."""
        ident = uuid.uuid4().hex
        future = self.waiting[ident] = asyncio.get_running_loop().create_future()
        self.send(f"<iq type='{kind}' id='{ident}'>{payload}</iq>")
        answer = await asyncio.wait_for(future, 20)
        if answer.get("type") == "error":
            conditions = [child.tag for error in answer.findall(CLIENT + "error") for child in error]
            raise XmppError(" ".join(conditions) or "error")
        return answer

    async def roster(self):
        answer = await self.iq("get", "<query xmlns='jabber:iq:roster'/>")
        items = [item_of(item) for item in answer.iter(ROSTER + "item")]
        return {item["jid"]: item for item in items}

    async def set_item(self, jid, name, groups):
        inner = "".join(f"<group>{escape(group)}</group>" for group in groups)
        shown = "" if name is None else f" name={quoteattr(name)}"
        await self.iq("set", f"<query xmlns='jabber:iq:roster'><item jid={quoteattr(jid)}{shown}>"
                      f"{inner}</item></query>")

    async def remove_item(self, jid):
        await self.iq("set", f"<query xmlns='jabber:iq:roster'><item jid={quoteattr(jid)} "
                      "subscription='remove'/></query>")

    def subscribe(self, jid, kind="subscribe"):
        self.send(f"<presence type='{kind}' to={quoteattr(jid)} id='{uuid.uuid4().hex}'/>")

    async def register(self, host, port):
        """Creates the account in band (XEP-0077)."""
        self.reader, self.writer = await asyncio.open_connection(host, port)
        await self.open_stream()
        self.task = asyncio.ensure_future(self.read_on())
        await self.iq("set", "<query xmlns='jabber:iq:register'>"
                      f"<username>{escape(self.local)}</username>"
                      f"<password>{escape(self.password)}</password></query>")

    async def close(self):
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        if self.writer is not None:
            self.writer.transport.abort()
