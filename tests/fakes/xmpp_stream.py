"""One server-side XML stream: TCP, TLS by hand (so that it can be broken anywhere) and expat. What the
stanzas mean stands in xmpp_server.py."""
import asyncio
import ssl
import xml.etree.ElementTree as ET
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from .support import reset as reset_link

CLIENT = "jabber:client"
ROSTER = "jabber:iq:roster"
STREAM = "http://etherx.jabber.org/streams"
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
STREAMS = "urn:ietf:params:xml:ns:xmpp-streams"
TLS = "urn:ietf:params:xml:ns:xmpp-tls"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
BIND = "urn:ietf:params:xml:ns:xmpp-bind"


def tag(name, ns=CLIENT):
    return "{%s}%s" % (ns, name)


def attrs(**values):
    """' a="x" b="y"', leaving out None. `from_` is written `from`."""
    return "".join(f" {key.rstrip('_')}={quoteattr(str(value))}" for key, value in values.items()
                   if value is not None)


class XmlStream(asyncio.Protocol):
    """Subclasses implement stream_opened(attributes), stanza(element), stream_closed() and lost()."""

    def __init__(self):
        self.transport = None
        self.tls = None
        self.closed = False
        self.hold = False         # True: nothing is sent, what is written is lost
        self.bytes_in = 0
        self._parser = None
        self._incoming = None
        self._outgoing = None

    # --- socket ---------------------------------------------------------------------------------
    def connection_made(self, transport):
        self.transport = transport
        self.fresh_parser()
        self.connected()

    def connected(self):
        pass

    def data_received(self, data):
        self.bytes_in += len(data)
        if self.tls is None:
            self._feed(data)
            return
        self._incoming.write(data)
        try:
            if not self._shaken:
                self.tls.do_handshake()
                self._shaken = True
                self._flush()
            while True:
                plain = self.tls.read(65536)
                if not plain:
                    break
                self._feed(plain)
                if self.tls is None:
                    return
        except ssl.SSLWantReadError:
            self._flush()
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.drop()
        except ssl.SSLError as error:
            self.tls_failed(error)
            self._flush()
            self.drop()

    def tls_failed(self, error):
        pass

    def start_tls(self, context):
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken = False
        self.fresh_parser()

    def _flush(self):
        if self._outgoing is not None and self._outgoing.pending:
            data = self._outgoing.read()
            if self.transport is not None and not self.transport.is_closing():
                self.transport.write(data)

    def write(self, data):
        """Loop thread only. Bytes or text, sent as they are."""
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogatepass")
        if self.hold or self.closed or self.transport.is_closing():
            return
        if self.tls is None:
            self.transport.write(data)
            return
        for start in range(0, len(data), 65536):
            self.tls.write(data[start:start + 65536])
        self._flush()

    def drop(self, reset=False):
        """Closes the connection without a word; reset: by RST."""
        if self.transport is not None:
            if reset:
                reset_link(self.transport)
            else:
                self.transport.close()

    def connection_lost(self, exc):
        self.closed = True
        self.lost()

    # --- XML ------------------------------------------------------------------------------------
    def fresh_parser(self):
        self._stack = []
        parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.ordered_attributes = False
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        self._parser = parser

    def _feed(self, data):
        try:
            self._parser.Parse(data, False)
        except expat.ExpatError as error:
            self.not_well_formed(error, data)

    def not_well_formed(self, error, data):
        self.write("<stream:error><not-well-formed xmlns='%s'/></stream:error></stream:stream>"
                   % STREAMS)
        self.drop()

    def _start(self, name, attributes):
        name = "{" + name if "}" in name else name
        attributes = {("{" + k if "}" in k else k): v for k, v in attributes.items()}
        element = ET.Element(name, attributes)
        if not self._stack:
            self._stack.append(element)
            self.stream_opened(attributes)
            return
        if len(self._stack) > 1:
            self._stack[-1].append(element)
        self._stack.append(element)

    def _end(self, name):
        element = self._stack.pop()
        if len(self._stack) == 1:
            self.stanza(element)
        elif not self._stack:
            self.stream_closed()

    def _text(self, text):
        if len(self._stack) < 2:
            return
        top = self._stack[-1]
        if len(top):
            top[-1].tail = (top[-1].tail or "") + text
        else:
            top.text = (top.text or "") + text
