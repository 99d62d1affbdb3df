"""A real Prosody on a free port, in a folder of its own, serving one domain. Accounts and rosters are
written as its storage files, so that each test can have accounts of its own at once."""
import itertools
import os
import shutil

from .support import PASSWORD, Child, can_connect, free_port, ready

CONFIG = """
run_as_root = true
daemonize = false
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
plugin_paths = {{ }}
log = {{ {{ levels = {{ min = "info" }}, to = "console" }} }}
modules_enabled = {{ "roster", "saslauth", "tls", "disco" }}
modules_disabled = {{ "s2s", "offline" }}
allow_registration = false
c2s_require_encryption = {encrypt}
authentication = "internal_plain"
allow_unencrypted_plain_auth = {plain}
storage = "internal"
c2s_ports = {{ {port} }}
c2s_interfaces = {{ "127.0.0.1" }}
limits = {{ }}
VirtualHost "{domain}"
{ssl}
"""
PEOPLE = ("juliet", "romeo", "nurse", "mercutio", "benvolio")


def _lua(text):
    escaped = "".join(f"\\{b:03d}" if b < 32 or b > 126 or chr(b) in '"\\' else chr(b)
                      for b in text.encode("utf-8"))
    return f'"{escaped}"'


def _store_name(text):
    return "".join(c if c.isalnum() and c.isascii() else f"%{ord(c):02x}" for c in text)


def roster_lua(items, version=1):
    """items: dicts as API.md section 1 shows them."""
    rows = []
    for item in items:
        groups = " ".join(f"[{_lua(group)}] = true;" for group in item.get("groups", ()))
        fields = [f'["subscription"] = {_lua(item.get("subscription", "none"))};',
                  f'["groups"] = {{ {groups} }};']
        if item.get("name"):
            fields.append(f'["name"] = {_lua(item["name"])};')
        if item.get("ask"):
            fields.append(f'["ask"] = {_lua(item["ask"])};')
        rows.append(f'  [{_lua(item["jid"])}] = {{ {" ".join(fields)} }};')
    return (f'return {{\n  [false] = {{ ["version"] = {version}; ["pending"] = {{}}; }};\n'
            + "\n".join(rows) + "\n};\n")


class Prosody:
    def __init__(self, folder, certificate=None, domain="example.com"):
        if shutil.which("prosody") is None:
            raise RuntimeError("prosody is not installed; run tests/setup")
        self.folder = str(folder)
        self.domain = domain
        self.port = free_port()
        self._certificate = certificate
        self._numbers = itertools.count(1)
        self._marks = f"{os.getpid():x}"
        for store in ("accounts", "roster"):
            os.makedirs(os.path.join(self._data(), store), exist_ok=True)
        self.config_path = os.path.join(self.folder, "prosody.cfg.lua")
        self.child = None
        for name in PEOPLE:
            self.add(name)
        self.start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def _data(self):
        return os.path.join(self.folder, "data", _store_name(self.domain))

    def _write(self, store, name, text):
        path = os.path.join(self._data(), store, _store_name(name) + ".dat")
        with open(path + ".new", "w", encoding="ascii") as file:
            file.write(text)
        os.replace(path + ".new", path)

    def start(self):
        certificate = self._certificate
        ssl = (f'  ssl = {{ key = "{certificate.key}"; certificate = "{certificate.cert}" }}'
               if certificate else "")
        with open(self.config_path, "w", encoding="ascii") as config:
            config.write(CONFIG.format(folder=self.folder, port=self.port, domain=self.domain,
                                       ssl=ssl, encrypt="true" if certificate else "false",
                                       plain="false" if certificate else "true"))
        self.child = Child(["prosody", "--config", self.config_path, "-F"],
                           os.path.join(self.folder, "prosody.log"))
        ready(self.child, lambda: can_connect("127.0.0.1", self.port), 30, "Prosody listens")

    def stop(self):
        if self.child is not None:
            self.child.signal(15)
            self.child.wait(30)
            self.child = None

    def kill(self):
        if self.child is not None:
            self.child.kill()
            self.child = None

    def add(self, name, password=PASSWORD, roster=None):
        self._write("accounts", name, f'return {{ ["password"] = {_lua(password)}; }};\n')
        if roster is not None:
            self._write("roster", name, roster_lua(roster))
        return f"{name}@{self.domain}"

    def account(self, name="juliet", password=PASSWORD, roster=None):
        """An account that no other test has: name-mark-number@domain."""
        return self.add(f"{name}-{self._marks}-{next(self._numbers)}", password, roster)

    def set_password(self, jid, password):
        """Prosody reads the file at the next sign-in."""
        self._write("accounts", jid.partition("@")[0],
                    f'return {{ ["password"] = {_lua(password)}; }};\n')
