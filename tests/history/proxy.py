"""The fault proxy of the tests: one TCP listener in front of one server, whose links it can cut,
stall, slow down and truncate on command.

It decides nothing by itself: a nemesis calls its methods, so that all chance comes from one seed.
Bytes are never changed or reordered, only late or missing; what was read from one side before that
side closed is still handed on, as a network would. All times are the loop's clock.
"""
import asyncio
import socket
import struct

UP, DOWN = "up", "down"  # towards the server, towards the client
CHUNK = 16384


class Pipe:
    """One direction of a link."""

    def __init__(self):
        self.open = asyncio.Event()
        self.open.set()
        self.stalls = 0
        self.piece = 0  # bytes at a time while slow, 0: all
        self.pause = 0.0  # seconds between two pieces
        self.budget = None  # bytes until the link is cut, None: no limit
        self.passed = 0


class Link:
    """A client's connection and its own connection to the server."""

    def __init__(self, proxy, number, reader, writer):
        self.proxy = proxy
        self.number = number
        self.client = (reader, writer)
        self.server = None
        self.pipes = {UP: Pipe(), DOWN: Pipe()}
        self.alive = True
        self.tasks = []

    async def run(self):
        """Carries bytes until both directions are done or somebody cuts."""
        try:
            self.server = await asyncio.open_connection(*self.proxy.target)
        except OSError:
            self.close(reset=True)
            return
        if not self.alive:
            self.server[1].transport.abort()
            return
        self.tasks = [
            asyncio.ensure_future(self.pump(UP, self.client[0], self.server[1])),
            asyncio.ensure_future(self.pump(DOWN, self.server[0], self.client[1])),
        ]
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.close(reset=False)

    async def pump(self, direction, reader, writer):
        pipe = self.pipes[direction]
        try:
            while True:
                await pipe.open.wait()
                data = await reader.read(CHUNK)
                if not data:
                    await pipe.open.wait()
                    break
                await self.deliver(pipe, data, writer)
            if writer.can_write_eof():
                writer.write_eof()
        except (OSError, asyncio.CancelledError):
            self.close(reset=True)

    async def deliver(self, pipe, data, writer):
        while data:
            await pipe.open.wait()
            size = len(data) if pipe.piece == 0 else min(pipe.piece, len(data))
            piece, data = data[:size], data[size:]
            if pipe.budget is not None:
                piece = piece[:pipe.budget]
                pipe.budget -= len(piece)
            if piece:
                pipe.passed += len(piece)
                writer.write(piece)
                await writer.drain()
            if pipe.budget == 0:
                # FIN, not RST: a reset could take back the bytes that were let through.
                if self.alive:
                    self.proxy.count("truncated")
                self.cut(reset=False)
                raise asyncio.CancelledError
            if pipe.piece and data:
                await asyncio.sleep(pipe.pause)

    def cut(self, reset):
        """Ends both connections at once. Returns whether there was anything to cut."""
        if not self.alive:
            return False
        self.proxy.count("cut")
        self.close(reset)
        return True

    def truncate(self, direction, size):
        """Lets `size` more bytes pass in one direction, then cuts."""
        self.pipes[direction].budget = size

    def stall(self, directions, seconds):
        for direction in directions:
            pipe = self.pipes[direction]
            pipe.stalls += 1
            pipe.open.clear()
            asyncio.get_running_loop().call_later(seconds, self.resume, pipe)
        self.proxy.count("stalled")

    @staticmethod
    def resume(pipe):
        pipe.stalls -= 1
        if pipe.stalls <= 0:
            pipe.stalls = 0
            pipe.open.set()

    def slow(self, directions, piece, pause, seconds):
        for direction in directions:
            self.pipes[direction].piece, self.pipes[direction].pause = piece, pause
            asyncio.get_running_loop().call_later(seconds, self.quick, self.pipes[direction])
        self.proxy.count("slowed")

    @staticmethod
    def quick(pipe):
        pipe.piece, pipe.pause = 0, 0.0

    def heal(self):
        for pipe in self.pipes.values():
            pipe.stalls, pipe.budget = 0, None
            self.quick(pipe)
            pipe.open.set()

    def close(self, reset):
        if not self.alive:
            return
        self.alive = False
        self.proxy.links.discard(self)
        for end in (self.client, self.server):
            if end is None:
                continue
            transport = end[1].transport
            if reset:
                sock = transport.get_extra_info("socket")
                try:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                except OSError:
                    pass
                transport.abort()
            else:
                transport.close()
        for task in self.tasks:
            if task is not asyncio.current_task():
                task.cancel()


class Proxy:
    """Modes for connections that come in: `pass`; `refuse` closes them at once; `hang` accepts
    and says nothing until the mode ends, then cuts them."""

    def __init__(self, host, port):
        self.target = (host, port)
        self.links = set()
        self.hung = set()
        self.mode = "pass"
        self.counts = {"links": 0, "cut": 0, "stalled": 0, "slowed": 0, "truncated": 0,
                       "refused": 0, "hung": 0}
        self.listener = None
        self.runs = set()

    def count(self, what):
        self.counts[what] += 1

    async def start(self):
        """Listens on a port of loopback that the kernel chose; returns it."""
        self.listener = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        return self.listener.sockets[0].getsockname()[1]

    async def accept(self, reader, writer):
        link = Link(self, self.counts["links"], reader, writer)
        self.count("links")
        if self.mode == "refuse":
            self.count("refused")
            link.close(reset=True)
            return
        if self.mode == "hang":
            self.count("hung")
            self.hung.add(link)
            return
        self.links.add(link)
        task = asyncio.current_task()
        self.runs.add(task)
        try:
            await link.run()
        finally:
            self.runs.discard(task)

    def set_mode(self, mode):
        self.mode = mode
        if mode != "hang":
            for link in self.hung:
                link.cut(reset=True)
            self.hung.clear()

    def ordered(self):
        """The links that live, oldest first: a choice among them depends on the seed only."""
        return sorted(self.links, key=lambda link: link.number)

    def heal(self):
        """Ends all faults; links that live go on."""
        self.set_mode("pass")
        for link in self.ordered():
            link.heal()

    async def stop(self):
        if self.listener is not None:
            self.listener.close()
            await self.listener.wait_closed()
        self.set_mode("pass")
        for link in self.ordered():
            link.close(reset=True)
        if self.runs:
            await asyncio.wait(list(self.runs), timeout=2)
