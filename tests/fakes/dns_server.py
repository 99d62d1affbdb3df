"""A DNS server of the tests' own, on loopback: UDP and TCP on one port. Answers from a table, remembers every
question, and can be silent, fail, or answer in pieces (truncated UDP, whole by TCP)."""
import asyncio
import ipaddress
import socket
import struct

from .support import Reactor, Recorder

A, CNAME, AAAA, SRV = 1, 5, 28, 33
TYPES = {"A": A, "CNAME": CNAME, "AAAA": AAAA, "SRV": SRV}
NAMES = {number: name for name, number in TYPES.items()}
NXDOMAIN, SERVFAIL = 3, 2


def encode_name(name):
    """Labels; "." is the root."""
    out = b""
    for label in name.strip(".").split("."):
        if label:
            out += bytes([len(label)]) + label.encode("ascii")
    return out + b"\0"


def decode_name(data, at):
    labels = []
    while data[at]:
        length = data[at]
        labels.append(data[at + 1:at + 1 + length].decode("ascii", "replace"))
        at += 1 + length
    return ".".join(labels).lower(), at + 1


class DnsServer:
    """server.srv("_xmpp-client._tcp.example.com", "host.example.com", 5222); server.a("host.example.com",
    "127.0.0.1"). What is not in the table does not exist (NXDOMAIN)."""

    def __init__(self):
        self.reactor = Reactor.shared()
        self.records = {}             # (name, type): [rdata]
        self.questions = Recorder()   # (name, "SRV")
        self.silent = False           # nothing is answered
        self.servfail = False
        self.truncate = False         # UDP answers say: ask again by TCP
        self.tcp_questions = 0
        self._udp = self._tcp = None
        self.port = self.reactor.wait(self._listen())

    async def _listen(self):
        loop = self.reactor.loop
        for _ in range(20):
            listener = socket.socket()
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            try:
                self._udp, _ = await loop.create_datagram_endpoint(
                    lambda: _Udp(self), local_addr=("127.0.0.1", port))
            except OSError:
                listener.close()      # somebody has the UDP port: another pair
                continue
            listener.listen(16)
            self._tcp = await asyncio.start_server(self._serve, sock=listener)
            return port
        raise RuntimeError("no free pair of ports")

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def close(self):
        self.reactor.call(self._udp.close)
        self.reactor.call(self._tcp.close)

    # --- the table ------------------------------------------------------------------------------
    def add(self, name, kind, rdata):
        self.records.setdefault((name.lower().rstrip("."), TYPES[kind]), []).append(rdata)

    def srv(self, name, target, port, priority=0, weight=0):
        self.add(name, "SRV", struct.pack(">HHH", priority, weight, port) + encode_name(target))

    def a(self, name, address):
        kind = "A" if ipaddress.ip_address(address).version == 4 else "AAAA"
        self.add(name, kind, ipaddress.ip_address(address).packed)

    def cname(self, name, target):
        self.add(name, "CNAME", encode_name(target))

    def asked(self, kind=None):
        return [name for name, type_ in self.questions.all() if kind in (None, type_)]

    # --- answers --------------------------------------------------------------------------------
    def answer(self, query, tcp):
        if len(query) < 12:
            return None
        name, at = decode_name(query, 12)
        kind = struct.unpack(">H", query[at:at + 2])[0]
        question = query[12:at + 4]
        self.questions.add((name, NAMES.get(kind, str(kind))))
        self.tcp_questions += tcp
        if self.silent:
            return None
        head = query[:2]
        if self.servfail:
            return head + struct.pack(">HHHHH", 0x8180 | SERVFAIL, 1, 0, 0, 0) + question
        if self.truncate and not tcp:
            return head + struct.pack(">HHHHH", 0x8380, 1, 0, 0, 0) + question
        records, owner = [], name
        while (owner, CNAME) in self.records and kind != CNAME and len(records) < 8:
            target = self.records[(owner, CNAME)][0]
            records.append((owner, CNAME, target))
            owner = decode_name(target, 0)[0]
        records += [(owner, kind, rdata) for rdata in self.records.get((owner, kind), [])]
        known = any(key[0] == owner for key in self.records)
        flags = 0x8180 | (0 if records or known else NXDOMAIN)
        body = b"".join(encode_name(o) + struct.pack(">HHIH", k, 1, 0, len(r)) + r
                        for o, k, r in records)
        return head + struct.pack(">HHHHH", flags, 1, len(records), 0, 0) + question + body

    async def _serve(self, reader, writer):
        try:
            while True:
                size = struct.unpack(">H", await reader.readexactly(2))[0]
                answer = self.answer(await reader.readexactly(size), True)
                if answer is not None:
                    writer.write(struct.pack(">H", len(answer)) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server):
        self.server = server
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        answer = self.server.answer(data, False)
        if answer is not None:
            self.transport.sendto(answer, addr)
