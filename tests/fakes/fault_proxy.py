"""A TCP proxy for the XMPP link that misbehaves on demand.

    proxy = FaultProxy("127.0.0.1", server.port)
    proxy.cut() .stall() .go_on() .slow(bytes_per_second) .truncate_after(n) .refuse() .listen()"""
import asyncio
import socket

from .support import Reactor
from .support import reset as reset_link


class FaultProxy:
    def __init__(self, host, port):
        self.reactor = Reactor.shared()
        self.target = (host, port)
        self.port = 0
        self.links = set()           # pairs of writers
        self.accepted = 0
        self.forwarded = 0
        self._rate = None
        self._truncate = None        # bytes towards the client that still pass
        self._open = self.reactor.call(asyncio.Event)
        self.reactor.call(self._open.set)
        self._server = None
        self.listen()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def listen(self):
        async def start():
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", self.port))
            sock.listen(1024)
            self.port = sock.getsockname()[1]
            return await asyncio.start_server(self._serve, sock=sock)

        if self._server is None:
            self._server = self.reactor.wait(start())

    def refuse(self):
        if self._server is not None:
            self.reactor.call(self._server.close)
            self._server = None

    def cut(self, reset=True):
        """Every link now open ends, by RST or FIN."""
        def run():
            for pair in list(self.links):
                for writer in pair:
                    if reset:
                        reset_link(writer.transport)
                    else:
                        writer.close()
        self.reactor.call(run)

    def stall(self):
        """Bytes are taken and not passed on, in both directions."""
        self.reactor.call(self._open.clear)

    def go_on(self):
        self._rate = None
        self.reactor.call(self._open.set)

    def slow(self, bytes_per_second):
        self._rate = bytes_per_second

    def truncate_after(self, n):
        """After n more bytes towards the gateway the link ends."""
        self._truncate = n

    def close(self):
        self.refuse()
        self.cut()

    async def _serve(self, reader, writer):
        self.accepted += 1
        try:
            up_reader, up_writer = await asyncio.open_connection(*self.target)
        except OSError:
            reset_link(writer.transport)
            return
        pair = (writer, up_writer)
        self.links.add(pair)
        try:
            await asyncio.gather(self._pump(reader, up_writer, False),
                                 self._pump(up_reader, writer, True))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.links.discard(pair)
            for end in pair:
                if not end.is_closing():
                    end.close()

    async def _pump(self, reader, writer, to_client):
        try:
            while True:
                data = await reader.read(256 if self._rate else 65536)
                if not data:
                    break
                await self._open.wait()
                if self._rate:
                    await asyncio.sleep(len(data) / self._rate)
                if to_client and self._truncate is not None:
                    data, cut = data[:self._truncate], len(data) >= self._truncate
                    self._truncate = None if cut else self._truncate - len(data)
                    if cut:
                        writer.write(data)
                        await writer.drain()
                        break
                writer.write(data)
                self.forwarded += len(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            if not writer.is_closing():
                writer.close()
