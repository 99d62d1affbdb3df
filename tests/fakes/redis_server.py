"""A real redis-server of one's own on a free port, and a Redis that is sick in a way of the test's choice."""
import socket
import threading

from .support import Child, free_port, ready


class RedisServer:
    """No persistence but what the test asks for with save(). command() is synchronous."""

    def __init__(self, folder, password=None):
        self.folder = str(folder)
        self.password = password
        self.port = free_port()
        self.child = None
        self.start()

    @property
    def url(self):
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/2"

    def start(self):
        argv = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder,
                "--save", "", "--appendonly", "no", "--enable-debug-command", "local"]
        if self.password:
            argv += ["--requirepass", self.password]
        self.child = Child(argv, self.folder + "/redis.log")
        ready(self.child, self._answers, 20, "redis-server")

    def _answers(self):
        try:
            return self.command("PING") == "PONG"
        except OSError:
            return False

    def kill(self):
        if self.child is not None:
            self.child.kill()
            self.child = None

    close = kill

    def command(self, *words):
        """One command in database 2, on a connection of its own."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as link:
            replies = link.makefile("rb")
            opening = [("AUTH", self.password)] if self.password else []
            for line in opening + [("SELECT", "2")]:
                link.sendall(_encode(line))
                _decode(replies)
            link.sendall(_encode(words))
            return _decode(replies)

    def info(self, name):
        for line in self.command("INFO").splitlines():
            if line.startswith(name + ":"):
                return int(float(line.split(":")[1]))
        raise KeyError(name)


def _encode(words):
    parts = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def _decode(stream):
    line = stream.readline()
    if not line:
        raise ConnectionResetError("closed")
    kind, rest = line[:1], line[1:-2].decode()
    if kind == b"+":
        return rest
    if kind == b"-":
        raise OSError(rest)
    if kind == b":":
        return int(rest)
    if kind == b"$":
        if int(rest) < 0:
            return None
        return stream.read(int(rest) + 2)[:-2].decode("utf-8", "replace")
    return [_decode(stream) for _ in range(int(rest))]


class SickRedis:
    """Greets as Redis does, then answers every further command with `answer(n)`: bytes, or None to hang
    up; nothing ever completes a half reply."""

    def __init__(self, answer):
        self.answer, self.asked = answer, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def _accept(self):
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link):
        try:
            stream = link.makefile("rb")
            while True:
                words = _decode(stream)
                if words[0] == "PING":
                    link.sendall(b"+PONG\r\n")
                    continue
                self.asked += 1
                answer = self.answer(self.asked)
                if answer is None:
                    return
                link.sendall(answer)
        except (OSError, ValueError):
            pass
        finally:
            link.close()

    def close(self):
        self._listener.close()
