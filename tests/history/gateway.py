"""The gateway processes of one history: their config, their workers, their ends."""
import asyncio
import os
import signal
import subprocess

from servers import free_port

CONFIG = """
[server]
listen = "127.0.0.1:{port}"
operations = "127.0.0.1:{operations}"
http_loops = 1
event_loops = 2
[xmpp]
domains = [{domains}]
workers = 1
plaintext_loopback = {plain}
ca_file = "{ca_file}"
connect_timeout = "{connect_timeout}"
iq_timeout = "{iq_timeout}"
[limits]
writes_user = 1000
signin_failures = 1000
signin_failures_address = 100000
[log]
level = "info"
"""
SHARED = """
[cache]
url = "{redis}"
[session]
keys_file = "{keys}"
"""
TRACES = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:", "Assertion",
          "WARNING: ThreadSanitizer")


class Gateway:
    """One instance. `life` names the process: "g1.0", after a kill "g1.1"."""

    def __init__(self, binary, folder, number, proxies, ca_file, redis=None, patient=False):
        """proxies: domain -> port. ca_file: None without TLS. redis: its URL, None without. patient: nothing
        will be silent, so that nothing is given up early."""
        self.binary, self.folder, self.proxies, self.ca_file = binary, folder, proxies, ca_file
        self.redis = redis
        self.timeouts = {"connect_timeout": "10s" if patient else "3s", "iq_timeout": "10s" if patient else "2s"}
        self.name, self.lives = f"g{number}", 0
        self.process = None
        beside = "" if number == 1 else f"-{number}"
        self.config_path = os.path.join(folder, f"gateway{beside}.conf")
        self.log_path = os.path.join(folder, f"gateway{beside}.log")
        self.kills = 0  # of its workers
        self.killed = False
        self.wrong = []

    @property
    def life(self):
        return f"{self.name}.{self.lives}"

    async def start(self):
        for _ in range(3):
            self.port, operations = free_port(), free_port()
            with open(self.config_path, "w") as out:
                out.write(CONFIG.format(
                    port=self.port, operations=operations, ca_file=self.ca_file or "",
                    plain="false" if self.ca_file else "true", **self.timeouts,
                    domains=", ".join(f'"{domain}=127.0.0.1:{port}"'
                                      for domain, port in self.proxies.items())))
                if self.redis is not None:
                    out.write(SHARED.format(redis=self.redis, keys=keys_file(self.folder)))
            if await self.spawn():
                return
        self.complain()

    async def spawn(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([self.binary, "--config", self.config_path], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL)
        return await self.is_up()

    def complain(self):
        with open(self.log_path, errors="replace") as log:
            raise RuntimeError(f"the gateway did not start: {log.read()[-2000:]}")

    def kill(self):
        """The whole instance, without warning; its workers end with it."""
        if not self.is_alive():
            self.wrong.append(f"the gateway had ended with {self.process.returncode}")
        self.process.kill()
        self.process.wait()
        self.killed = True

    async def revive(self):
        """A new life on the same port; goes on where a cancelled one left off."""
        if not self.is_alive():
            self.lives += 1
            up = await self.spawn()
        else:
            up = await self.is_up()
        if not up:
            self.complain()
        self.killed = False

    async def is_up(self):
        for _ in range(600):
            if self.process.poll() is not None:
                return False
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return True
            except OSError:
                await asyncio.sleep(0.05)
        self.process.kill()
        self.process.wait()
        return False

    def workers(self):
        """Process ids of the XMPP workers, in the order they were started."""
        found = set()
        tasks = f"/proc/{self.process.pid}/task"
        try:
            for task in os.listdir(tasks):
                with open(f"{tasks}/{task}/children") as children:
                    found.update(int(pid) for pid in children.read().split())
        except OSError:
            pass
        return sorted(pid for pid in found if self.is_worker(pid))

    @staticmethod
    def is_worker(pid):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as line:
                return b"--xmpp-worker" in line.read()
        except OSError:
            return False

    def kill_worker(self, rng):
        """Kills a worker without warning. Returns whether there was one."""
        workers = self.workers()
        if not workers:
            return False
        os.kill(rng.choice(workers), signal.SIGKILL)
        self.kills += 1
        return True

    def is_alive(self):
        return self.process.poll() is None

    async def stop(self):
        """Returns what was wrong with the process, as texts."""
        wrong = list(self.wrong)
        if not self.is_alive():
            wrong.append(f"the gateway had ended with {self.process.returncode}")
        else:
            self.process.terminate()
            for _ in range(600):
                if not self.is_alive():
                    break
                await asyncio.sleep(0.05)
            else:
                wrong.append("the gateway did not stop within 30 s")
                self.process.kill()
                self.process.wait()
            if self.process.returncode != 0 and not wrong:
                wrong.append(f"the gateway ended with {self.process.returncode}")
        with open(self.log_path, errors="replace") as log:
            wrong += [line.strip()[:300] for line in log if any(mark in line for mark in TRACES)]
        return wrong


def keys_file(folder):
    """One for all instances."""
    path = os.path.join(folder, "keys")
    if not os.path.exists(path):
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as out:
            out.write(os.urandom(32).hex() + "\n")
    return path


class Fleet:
    """All instances of a history."""

    def __init__(self, gateways):
        self.gateways = gateways

    def living(self):
        return [gateway for gateway in self.gateways if gateway.is_alive()]

    def choose(self, rng, last=None):
        """One that lives, in half of the cases the last one again. With a single one nothing is drawn."""
        if len(self.gateways) == 1:
            return self.gateways[0]
        living = self.living() or self.gateways
        if last in living and rng.random() < 0.5:
            return last
        return rng.choice(living)
