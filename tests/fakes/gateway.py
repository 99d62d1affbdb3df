"""Starts the gateway as a person would (rostergate --config FILE), on free ports, and holds it to its
word at the end: SIGTERM, exit 0, no sanitizer report from it or its workers, no secret in its log."""
import glob
import http.client
import json
import os
import re
import signal

from .http_client import Api
from .sse import SseClient
from .support import PASSWORD, Child, can_connect, deadline, free_port, ready, wait_until

REPORT = re.compile(r"(ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:"
                    r"|AddressSanitizer:DEADLYSIGNAL).*")


def _toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return json.dumps(value)


def toml(sections):
    return "".join(f"[{name}]\n" + "".join(f"{key} = {_toml(value)}\n"
                                           for key, value in keys.items())
                   for name, keys in sections.items())


class Gateway:
    """domains: {"example.com": "127.0.0.1:5222"}; further sections of the configuration as dicts:
    Gateway(..., events={"heartbeat": "1s"})."""

    def __init__(self, binary, folder, domains, ca_file="", env=None, start=True, expect_exit=0,
                 **sections):
        self.binary = binary
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.reports_allowed = False      # True: this test makes a worker die on purpose
        self.expect_exit = expect_exit
        self.extra_env = dict(env or {})
        self.secrets = []                 # strings that must never stand in the log
        self.child = None
        self._runs = 0
        self._given = {name: dict(keys) for name, keys in sections.items()}
        self._domains = [f"{domain}={address}" if address else domain
                         for domain, address in domains.items()]
        self._ca_file = ca_file
        self.config_path = os.path.join(self.folder, "rostergate.conf")
        self._choose_ports()
        if start:
            self.start()

    # --- configuration --------------------------------------------------------------------------
    def _choose_ports(self):
        self.port, self.operations_port = free_port(), free_port()

    def sections(self):
        base = {
            "server": {"listen": f"127.0.0.1:{self.port}",
                       "operations": f"127.0.0.1:{self.operations_port}"},
            "xmpp": {"domains": self._domains},
            "cache": {"url": "memory:"},
            "log": {"level": "debug"},
        }
        if self._ca_file:
            base["xmpp"]["ca_file"] = self._ca_file
        for name, keys in self._given.items():
            base.setdefault(name, {}).update(keys)
        return base

    def configure(self, **sections):
        """For the next start."""
        for name, keys in sections.items():
            self._given.setdefault(name, {}).update(keys)

    @property
    def unix_path(self):
        listen = self.sections()["server"]["listen"]
        return listen[5:] if listen.startswith("unix:") else None

    # --- life -----------------------------------------------------------------------------------
    def environment(self):
        log = os.path.join(self.folder, "sanitizer")
        env = {key: value for key, value in os.environ.items() if not key.startswith("ROSTERGATE_")}
        env["ASAN_OPTIONS"] = (f"log_path={log}:detect_leaks=1:abort_on_error=0:exitcode=99:"
                               "detect_stack_use_after_return=0:allocator_may_return_null=1")
        env["UBSAN_OPTIONS"] = f"log_path={log}:print_stacktrace=1:halt_on_error=1"
        env["TSAN_OPTIONS"] = f"log_path={log}:exitcode=98:halt_on_error=0"
        env["LSAN_OPTIONS"] = "max_leaks=20"
        env.update(self.extra_env)
        return env

    def write_config(self, text=None):
        with open(self.config_path, "w", encoding="utf-8") as config:
            config.write(toml(self.sections()) if text is None else text)

    def start(self, wait=True, pass_fds=(), preexec=None):
        for attempt in (1, 2, 3):
            self.write_config()
            self._runs += 1
            self._terminated = False
            self.log_path = os.path.join(self.folder, f"gateway-{self._runs}.log")
            self.child = Child([self.binary, "--config", self.config_path], self.log_path,
                               env=self.environment(), pass_fds=pass_fds, preexec=preexec)
            if not wait:
                return self
            try:
                ready(self.child, self.is_ready, 30, "gateway ready")
                return self
            except AssertionError:
                # Somebody else took the port between the choice and the bind.
                if attempt < 3 and "in use" in self.child.output():
                    self._choose_ports()
                    continue
                raise
        return self

    def is_ready(self):
        try:
            return self.operations("/readyz").status == 200
        except OSError:
            return False

    def operations(self, path, method="GET"):
        connection = http.client.HTTPConnection("127.0.0.1", self.operations_port,
                                                timeout=deadline(10))
        try:
            connection.request(method, path)
            response = connection.getresponse()
            response.body = response.read()
            return response
        finally:
            connection.close()

    def stop(self, timeout=60):
        """SIGTERM; the exit status and the reports are judged."""
        if self.child is None:
            return
        child, self.child = self.child, None
        if child.running() and not self._terminated:
            child.signal(signal.SIGTERM)
        try:
            status = child.wait(timeout)
        except AssertionError:
            child.kill()
            raise
        self.check_reports()
        if self.expect_exit is not None:
            assert status == self.expect_exit, f"exit {status}:\n{child.output()[-3000:]}"

    def terminate(self, number=signal.SIGTERM):
        """Only the signal; stop() then waits and judges, without a second one (that stops at once)."""
        self._terminated = True
        self.child.signal(number)

    def kill(self):
        """kill -9, no questions asked."""
        if self.child is not None:
            self.child.kill()
            self.child = None

    def restart(self, **sections):
        self.stop()
        self.configure(**sections)
        self.start()

    # --- judgement ------------------------------------------------------------------------------
    def reports(self):
        found = []
        for path in sorted(glob.glob(os.path.join(self.folder, "sanitizer.*"))):
            with open(path, encoding="utf-8", errors="replace") as report:
                text = report.read()
            if text.strip():
                found.append(f"{os.path.basename(path)}:\n{text[:6000]}")
        for path in sorted(glob.glob(os.path.join(self.folder, "gateway-*.log"))):
            with open(path, encoding="utf-8", errors="replace") as log:
                text = log.read()
            match = REPORT.search(text)
            if match:
                found.append(f"{os.path.basename(path)}:\n{text[match.start():][:6000]}")
        return found

    def check_reports(self):
        if not self.reports_allowed:
            found = self.reports()
            assert not found, "sanitizer report:\n" + "\n".join(found)
            odd = [line for line in self.log().splitlines() if not line.startswith(("{", "rostergate: "))]
            assert not odd, f"not one JSON object a line (API 8): {odd[:3]}"
        text = self.log()
        for secret in self.secrets:
            # Shorter ones would be found by chance.
            assert len(secret) < 8 or secret not in text, f"the log contains {secret!r}"

    def log(self):
        text = ""
        for path in sorted(glob.glob(os.path.join(self.folder, "gateway-*.log"))):
            with open(path, encoding="utf-8", errors="replace") as log:
                text += log.read()
        return text

    def log_lines(self, event=None):
        """The JSON objects of the log (with this event)."""
        lines = []
        for line in self.log().splitlines(keepends=True):
            if line.startswith("{") and line.endswith("\n"):   # else it is being written
                body = json.loads(line)
                if event in (None, body.get("event")):
                    lines.append(body)
        return lines

    # --- clients --------------------------------------------------------------------------------
    @property
    def address(self):
        return self.unix_path or ("127.0.0.1", self.port)

    def api(self, token=None, headers=None):
        return Api(self.address, token, headers)

    def sign_in(self, jid, password=PASSWORD, **members):
        client = self.api().sign_in(jid, password, **members)
        self.secrets += [password, client.token]
        return client

    def stream(self, api, query="", **how):
        stream = SseClient(api, query, **how)
        assert stream.status == 200, f"{stream.status} {stream.body!r}"
        return stream

    # --- inside ---------------------------------------------------------------------------------
    def metrics(self):
        """{name: {labels: value}} of the Prometheus text form."""
        body = self.operations("/metrics").body.decode()
        found = {}
        for line in body.splitlines():
            if line and not line.startswith("#"):
                name, labels, value = re.match(r"^(\w+)(?:\{(.*)\})? (\S+)$", line).groups()
                found.setdefault(name, {})[labels or ""] = float(value)
        return found

    def metric(self, name, contains=""):
        """The sum of the series of this name whose labels contain the text; 0 if there are none."""
        return sum(value for labels, value in self.metrics().get(name, {}).items()
                   if contains in labels)

    def wait_metric(self, name, condition, contains="", timeout=10):
        return wait_until(lambda: condition(self.metric(name, contains)) or None, timeout,
                          lambda: f"{name} {contains} (is {self.metric(name, contains)})", 0.05)

    def worker_pids(self):
        """The child processes of the front."""
        pids = []
        for task in glob.glob(f"/proc/{self.child.pid}/task/*/children"):
            try:
                with open(task, encoding="ascii") as children:
                    pids += [int(pid) for pid in children.read().split()]
            except OSError:
                continue
        return pids

    def context_switches(self):
        """Voluntary ones of all threads of front and workers: each is a wait that ended."""
        total = 0
        for pid in [self.child.pid, *self.worker_pids()]:
            for path in glob.glob(f"/proc/{pid}/task/*/status"):
                with open(path, encoding="ascii", errors="replace") as status:
                    total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read(),
                                           re.M)[1])
        return total

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))

    def resident_kb(self):
        with open(f"/proc/{self.child.pid}/status", encoding="ascii", errors="replace") as status:
            return int(re.search(r"^VmRSS:\s+(\d+)", status.read(), re.M)[1])

    def listening(self):
        return can_connect("127.0.0.1", self.port)
