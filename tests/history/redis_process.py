"""The Redis of one history: a redis-server of its own that keeps nothing but what the nemesis saves."""
import asyncio
import os
import shutil
import signal
import subprocess

from servers import free_port


class Redis:
    def __init__(self, folder):
        self.folder = os.path.join(folder, "redis")
        self.dump, self.saved = (os.path.join(self.folder, name) for name in ("dump.rdb", "saved.rdb"))
        self.port = free_port()
        self.process = None
        self.stopped = False
        os.makedirs(self.folder)

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self, old=False):
        """Empty, or (`old`) as it was at the last save()."""
        if old and os.path.exists(self.saved):
            shutil.copy(self.saved, self.dump)
        elif os.path.exists(self.dump):
            os.remove(self.dump)
        for _ in range(3):
            with open(os.path.join(self.folder, "redis.log"), "ab") as log:
                self.process = subprocess.Popen(
                    ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder,
                     "--save", "", "--appendonly", "no"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            for _ in range(400):
                if self.process.poll() is not None:
                    break
                if await self.answers():
                    return
                await asyncio.sleep(0.01)
            self.kill()
        with open(os.path.join(self.folder, "redis.log"), errors="replace") as log:
            raise RuntimeError(f"redis-server did not start: {log.read()[-1000:]}")

    async def answers(self):
        try:
            return await self.command("PING") == "+PONG"
        except (OSError, EOFError, asyncio.TimeoutError):
            return False

    async def command(self, *words):
        """One command on a connection of its own; returns the first line of its answer."""
        return await asyncio.wait_for(self.exchange(words), 5)

    async def exchange(self, words):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(" ".join(words).encode() + b"\r\n")
            return (await reader.readline()).decode().strip()
        finally:
            writer.transport.abort()

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    async def save(self):
        """In the background: to write while nobody is answered would be a fault of its own."""
        if os.path.exists(self.dump):
            os.remove(self.dump)
        await self.command("BGSAVE")
        while not os.path.exists(self.dump):  # it gets its name when it is whole
            await asyncio.sleep(0.01)
        shutil.copy(self.dump, self.saved)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        self.stopped = True

    def go_on(self):
        if self.stopped:
            self.process.send_signal(signal.SIGCONT)
            self.stopped = False

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.stopped = False
