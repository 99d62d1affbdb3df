"""One gateway process of one history: its config, its workers, its end."""
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
connect_timeout = "3s"
iq_timeout = "2s"
[limits]
writes_user = 1000
signin_failures = 1000
signin_failures_address = 100000
[log]
level = "info"
"""
TRACES = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:", "Assertion",
          "WARNING: ThreadSanitizer")


class Gateway:
    def __init__(self, binary, folder, proxies, ca_file):
        """proxies: domain -> port. ca_file: None without TLS."""
        self.ca_file = ca_file
        self.binary, self.folder, self.proxies = binary, folder, proxies
        self.process = None
        self.log_path = os.path.join(folder, "gateway.log")
        self.kills = 0

    async def start(self):
        for _ in range(3):
            self.port, operations = free_port(), free_port()
            config = os.path.join(self.folder, "gateway.conf")
            with open(config, "w") as out:
                out.write(CONFIG.format(
                    port=self.port, operations=operations, ca_file=self.ca_file or "",
                    plain="false" if self.ca_file else "true",
                    domains=", ".join(f'"{domain}=127.0.0.1:{port}"'
                                      for domain, port in self.proxies.items())))
            with open(self.log_path, "wb") as log:
                self.process = subprocess.Popen([self.binary, "--config", config], stdout=log,
                                                stderr=log, stdin=subprocess.DEVNULL)
            if await self.is_up():
                return
        with open(self.log_path, errors="replace") as log:
            raise RuntimeError(f"the gateway did not start: {log.read()[-2000:]}")

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
        wrong = []
        if not self.is_alive():
            wrong.append(f"the gateway had ended with {self.process.returncode}")
        else:
            self.process.terminate()
            for _ in range(200):
                if not self.is_alive():
                    break
                await asyncio.sleep(0.05)
            else:
                wrong.append("the gateway did not stop within 10 s")
                self.process.kill()
                self.process.wait()
            if self.process.returncode != 0 and not wrong:
                wrong.append(f"the gateway ended with {self.process.returncode}")
        with open(self.log_path, errors="replace") as log:
            wrong += [line.strip()[:300] for line in log if any(mark in line for mark in TRACES)]
        return wrong
