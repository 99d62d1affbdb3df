"""The shared XMPP server of a run: Prosody or ejabberd in a folder of its own, on a port of its own,
with two domains and an account whenever somebody asks for one. Ended by process id."""
import asyncio
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from fakes.certs import Authority  # noqa: E402  (tests/ must be found first)
from xmpp import XmppClient  # noqa: E402

DOMAINS = ("one.test", "two.test")
PASSWORD = "history-of-the-roster"

PROSODY = """
run_as_root = true
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
plugin_paths = {{}}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{}}
modules_enabled = {{ "roster", "saslauth", "presence", "tls" }}
modules_disabled = {{ "s2s", "offline", "limits" }}
authentication = "internal_plain"
-- The password exchange is not what is tested here, and there are hundreds of reconnects.
disable_sasl_mechanisms = {{ "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "DIGEST-MD5" }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
network_settings = {{ read_timeout = 3600, tcp_backlog = 1024 }}
log = {{ info = "{folder}/prosody.log" }}
"""

EJABBERD = """
hosts: [{hosts}]
loglevel: warning
certfiles: [{certificates}]
listen:
  - port: {port}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    starttls: true
    shaper: none
auth_method: internal
auth_password_format: plain
disable_sasl_mechanisms: ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512", "DIGEST-MD5", "X-OAUTH2"]
registration_timeout: infinity
modules:
  mod_register:
    ip_access: all
    access: all
    access_from: all
  mod_roster:
    versioning: true
    store_current_id: {store_id}
"""


def free_port():
    """Below the kernel's own range, so that no outgoing connection takes it before the server does."""
    while True:
        port = random.SystemRandom().randint(12000, 31999)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Server:
    """Start with start(), end with stop(). `port` speaks client-to-server XMPP on loopback."""

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.process = None
        self.log = None
        os.makedirs(folder, exist_ok=True)

    def ca_file(self):
        return os.path.join(self.folder, "tls", "ca.pem")

    def make_certificates(self):
        authority = Authority(os.path.join(self.folder, "tls"))
        for domain in DOMAINS:
            authority.issue(domain)

    def pems(self):
        """Certificate and key of a domain in one file each."""
        for domain in DOMAINS:
            base = os.path.join(self.folder, "tls", domain)
            with open(base + ".pem", "w") as out:
                for part in (base + ".crt", base + ".key"):
                    with open(part) as text:
                        out.write(text.read())
            yield base + ".pem"

    def spawn(self, argv, env=None):
        self.log = open(os.path.join(self.folder, "server.out"), "wb")
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, env=env, cwd=self.folder,
                                        start_new_session=True)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        self.stop()
        with open(os.path.join(self.folder, "server.out"), errors="replace") as text:
            raise RuntimeError(f"the XMPP server did not start: {text.read()[-2000:]}")

    def stop(self):
        if self.process is None:
            return
        # Its own session, so that the helpers of ejabberd end with it.
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(10)
                break
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self.process.wait()
        self.process = None
        self.log.close()


class Prosody(Server):
    name = "prosody"

    def start(self):
        self.make_certificates()
        config = os.path.join(self.folder, "prosody.cfg.lua")
        with open(config, "w") as out:
            out.write(PROSODY.format(folder=self.folder, port=self.port))
            for domain in DOMAINS:
                base = f"{self.folder}/tls/{domain}"
                out.write(f'VirtualHost "{domain}"\n'
                          f'ssl = {{ key = "{base}.key", certificate = "{base}.crt" }}\n')
        self.spawn(["prosody", "-F", "--config", config])

    def add(self, local, domain):
        """Creates an account by writing what mod_auth_internal_plain reads at sign-in."""
        host = re.sub(r"[^A-Za-z0-9]", lambda match: "%%%02x" % ord(match.group()), domain)
        folder = os.path.join(self.folder, "data", host, "accounts")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, local + ".dat"), "w") as out:
            out.write('return {\n\t["password"] = "%s";\n};\n' % PASSWORD)


class Ejabberd(Server):
    """Run straight under erl with its own Mnesia folder; no epmd and no distribution."""
    name = "ejabberd"

    def __init__(self, folder, store_id=False):
        super().__init__(folder)
        self.store_id = store_id

    def start(self):
        self.make_certificates()
        config = os.path.join(self.folder, "ejabberd.yml")
        with open(config, "w") as out:
            out.write(EJABBERD.format(hosts=", ".join(DOMAINS), port=self.port,
                                      certificates=", ".join(f'"{path}"' for path in self.pems()),
                                      store_id="true" if self.store_id else "false"))
        env = dict(os.environ, EJABBERD_CONFIG_PATH=config, HOME=self.folder,
                   ERL_LIBS="/usr/lib/x86_64-linux-gnu:/usr/lib/aarch64-linux-gnu",
                   EJABBERD_LOG_PATH=os.path.join(self.folder, "ejabberd.log"),
                   ERL_CRASH_DUMP_BYTES="0")
        argv = ["erl", "+K", "true", "-noinput", "-mnesia", "dir", f'"{self.folder}/mnesia"',
                "-ejabberd", "quiet", "true", "-s", "ejabberd"]
        self.spawn(argv, env)

    def add(self, local, domain):
        asyncio.run(self.register(local, domain))

    async def register(self, local, domain):
        client = XmppClient(local, domain, PASSWORD)
        try:
            await client.register("127.0.0.1", self.port)
        finally:
            await client.close()


KINDS = {"prosody": Prosody, "ejabberd": Ejabberd}
