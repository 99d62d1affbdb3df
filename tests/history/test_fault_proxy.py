"""The fault proxy does what it is told, and only that."""
import asyncio

import pytest

from proxy import DOWN, UP, Proxy


class Bench:
    """An echo server, the proxy before it, one client."""

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.echo, "127.0.0.1", 0)
        self.proxy = Proxy("127.0.0.1", self.server.sockets[0].getsockname()[1])
        self.port = await self.proxy.start()
        self.seen = b""
        return self

    async def __aexit__(self, *_):
        await self.proxy.stop()
        self.server.close()

    async def echo(self, reader, writer):
        while True:
            try:
                data = await reader.read(4096)
            except ConnectionError:
                data = b""
            if not data:
                break
            self.seen += data
            writer.write(data)
        writer.close()

    async def client(self):
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def said(self, reader, writer, text):
        writer.write(text)
        return await asyncio.wait_for(reader.readexactly(len(text)), 2)


def run(body):
    async def inside():
        async with Bench() as bench:
            await body(bench)
    asyncio.run(inside())


def test_proxy__pass__bytes_unchanged():
    async def body(bench):
        reader, writer = await bench.client()
        data = bytes(range(256)) * 300
        assert await bench.said(reader, writer, data) == data
    run(body)


@pytest.mark.parametrize("reset", [True, False])
def test_proxy__cut__client_sees_the_end(reset):
    async def body(bench):
        reader, writer = await bench.client()
        await bench.said(reader, writer, b"hello")
        assert bench.proxy.ordered()[0].cut(reset)
        if reset:
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(1), 2)
        else:
            assert await asyncio.wait_for(reader.read(1), 2) == b""
        assert bench.proxy.counts["cut"] == 1 and not bench.proxy.links
    run(body)


def test_proxy__stall__holds_and_releases():
    async def body(bench):
        reader, writer = await bench.client()
        await bench.said(reader, writer, b"hello")
        bench.proxy.ordered()[0].stall((UP,), 0.3)
        start = asyncio.get_running_loop().time()
        assert await bench.said(reader, writer, b"late") == b"late"
        assert asyncio.get_running_loop().time() - start >= 0.25
    run(body)


def test_proxy__heal__ends_a_stall_at_once():
    async def body(bench):
        reader, writer = await bench.client()
        await bench.said(reader, writer, b"hello")
        bench.proxy.ordered()[0].stall((UP, DOWN), 60)
        writer.write(b"x")
        bench.proxy.heal()
        assert await asyncio.wait_for(reader.readexactly(1), 2) == b"x"
    run(body)


def test_proxy__slow__all_bytes_in_small_pieces():
    async def body(bench):
        reader, writer = await bench.client()
        await bench.said(reader, writer, b"hello")
        bench.proxy.ordered()[0].slow((DOWN,), 10, 0.02, 5)
        start = asyncio.get_running_loop().time()
        assert await bench.said(reader, writer, b"y" * 100) == b"y" * 100
        assert asyncio.get_running_loop().time() - start >= 0.15
    run(body)


def test_proxy__truncate__exactly_that_many_bytes():
    async def body(bench):
        reader, writer = await bench.client()
        await bench.said(reader, writer, b"hello")
        bench.proxy.ordered()[0].truncate(DOWN, 7)
        writer.write(b"0123456789abcdef")
        assert await asyncio.wait_for(reader.read(-1), 2) == b"0123456"
        assert bench.proxy.counts["truncated"] == 1 and bench.proxy.counts["cut"] == 1
    run(body)


def test_proxy__truncate_up__server_sees_a_part():
    async def body(bench):
        reader, writer = await bench.client()
        await bench.said(reader, writer, b"hello")
        bench.proxy.ordered()[0].truncate(UP, 3)
        writer.write(b"0123456789")
        assert (await asyncio.wait_for(reader.read(-1), 2)) in (b"", b"012")
        await asyncio.sleep(0.05)
        assert bench.seen == b"hello012"
    run(body)


def test_proxy__refuse__closes_at_once():
    async def body(bench):
        bench.proxy.set_mode("refuse")
        reader, _ = await bench.client()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), 2)
        bench.proxy.heal()
        assert await bench.said(*await bench.client(), b"again") == b"again"
    run(body)


def test_proxy__hang__says_nothing_then_cuts():
    async def body(bench):
        bench.proxy.set_mode("hang")
        reader, writer = await bench.client()
        writer.write(b"anybody?")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        assert bench.seen == b""
        bench.proxy.set_mode("pass")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), 2)
    run(body)
