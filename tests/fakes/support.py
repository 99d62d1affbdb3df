"""Small things every harness file needs: free ports, conditions with a deadline, one asyncio loop
in a thread of its own, child processes with their output kept."""
import asyncio
import os
import random
import signal
import socket
import struct
import subprocess
import threading
import time

# Deadlines are for failures only; a slow machine may stretch them all.
PASSWORD = "Wherefore-art-0"     # of every account that does not say otherwise; must never be logged
PATIENCE = float(os.environ.get("RG_TEST_PATIENCE", "1"))


def deadline(seconds):
    return seconds * PATIENCE


def free_port():
    """A port nobody listens on. Below the kernel's own range (32768 and up), so that no outgoing
    connection of another test takes it between this call and the server's bind; each process of the
    tests has ports of its own, so that none takes another one's."""
    mine = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 16
    for _ in range(200):
        port = random.SystemRandom().randrange(12000 + mine, 32000, 16)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port found")


def wait_until(condition, timeout=10, what="condition", every=0.01):
    """Polls until condition() is true and returns its value; AssertionError after timeout."""
    end = time.monotonic() + deadline(timeout)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            text = what() if callable(what) else what
            raise AssertionError(f"not within {deadline(timeout):g} s: {text}")
        time.sleep(every)


def can_connect(host, port):
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


class Reactor:
    """One asyncio loop in a daemon thread, shared by all fakes of a test process."""

    _shared = None

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name="reactor", daemon=True)
        self.thread.start()

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    @classmethod
    def shared(cls):
        if cls._shared is None:
            cls._shared = Reactor()
        return cls._shared

    def inside(self):
        return threading.current_thread() is self.thread

    def call(self, fn, *args):
        """Runs fn on the loop and returns its result; at once when already there."""
        if self.inside():
            return fn(*args)

        async def run():
            return fn(*args)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(deadline(30))

    def wait(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(deadline(30))


def reset(transport):
    """Ends an asyncio transport by RST (SO_LINGER of 0 s) instead of FIN."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Recorder:
    """A list that several threads may append to and wait on."""

    def __init__(self):
        self._items = []
        self._changed = threading.Condition()

    def add(self, item):
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    def poke(self):
        with self._changed:
            self._changed.notify_all()

    def all(self):
        with self._changed:
            return list(self._items)

    def __len__(self):
        with self._changed:
            return len(self._items)

    def clear(self):
        with self._changed:
            self._items.clear()

    def wait_for(self, predicate, timeout=10, since=0, what="item"):
        """The first item from index `since` for which predicate holds."""
        end = time.monotonic() + deadline(timeout)
        seen = since
        with self._changed:
            while True:
                while seen < len(self._items):
                    if predicate(self._items[seen]):
                        return self._items[seen]
                    seen += 1
                left = end - time.monotonic()
                if left <= 0:
                    tail = "\n  ".join(str(i)[:300] for i in self._items[-12:])
                    raise AssertionError(f"no {what} within {deadline(timeout):g} s; last:\n  {tail}")
                self._changed.wait(left)


class Child:
    """A child process whose output goes to a file; ended by its id, never by name."""

    def __init__(self, argv, log_path, env=None, cwd=None, preexec=None, pass_fds=()):
        self.argv = argv
        self.log_path = log_path
        with open(log_path, "ab") as log:
            self.process = subprocess.Popen(
                argv, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env,
                cwd=cwd, start_new_session=True, preexec_fn=preexec, pass_fds=pass_fds)

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process.poll() is None

    def output(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=30):
        """The exit status; negative for a signal."""
        try:
            return self.process.wait(deadline(timeout))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.argv[0]} still runs after {deadline(timeout):g} s") from None

    def kill(self):
        """Ends what is left of the process group, whatever state it is in."""
        if self.process.poll() is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()


def ready(child, condition, timeout=30, what="ready"):
    """Waits until condition() holds while the child runs; its output explains a failure."""

    def check():
        if not child.running():
            raise AssertionError(f"{child.argv[0]} ended with {child.process.returncode}:\n"
                                 + child.output()[-4000:])
        return condition()

    try:
        return wait_until(check, timeout, what, every=0.02)
    except AssertionError:
        child.kill()
        raise
