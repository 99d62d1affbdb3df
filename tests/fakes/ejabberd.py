"""A real ejabberd in a folder of its own: run straight under erl as a normal process, without distribution,
so there is no node name, no cookie and no epmd to share. One process serves a domain for each way of
roster versioning. Accounts and rosters are made over its HTTP API, which listens on loopback only."""
import http.client
import itertools
import json
import os
import shutil

from .support import PASSWORD, Child, can_connect, deadline, free_port, ready

# domain -> mod_roster's options: `ver` computed from the content, a stored one, none.
MODES = {
    "ejabberd": ("example.com", {"versioning": True, "store_current_id": False}),
    "ejabberd-stored": ("stored.example.com", {"versioning": True, "store_current_id": True}),
    "ejabberd-plain": ("plain.example.com", {"versioning": False}),
}

CONFIG = """
hosts: [{hosts}]
loglevel: warning
certfiles: [{certificates}]
listen:
  - port: {port}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    starttls_required: true
    shaper: none
  - port: {api_port}
    ip: "127.0.0.1"
    module: ejabberd_http
    request_handlers:
      /api: mod_http_api
api_permissions:
  "the tests":
    from: mod_http_api
    who: all
    what: "*"
acl:
  local:
    user_regexp: ""
access_rules:
  local:
    allow: local
auth_method: internal
auth_password_format: plain
disable_sasl_mechanisms: ["X-OAUTH2"]
registration_timeout: infinity
modules:
  mod_admin_extra: {{}}
  mod_shared_roster: {{}}
append_host_config:
{rosters}
"""


def _yaml(value):
    return "true" if value is True else "false" if value is False else value


class Ejabberd:
    def __init__(self, folder, authority):
        if shutil.which("erl") is None:
            raise RuntimeError("ejabberd is not installed; run tests/setup")
        self.folder = str(folder)
        self.port, self.api_port = free_port(), free_port()
        self._numbers = itertools.count(1)
        self._marks = f"{os.getpid():x}"
        self._authority = authority
        self.child = None
        self.start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    # --- life -------------------------------------------------------------------------------------
    def _certificates(self):
        """Chain and key of each domain in one file, as ejabberd wants them."""
        for domain, _ in MODES.values():
            certificate = self._authority.issue(domain)
            path = os.path.join(self.folder, domain + ".pem")
            with open(path, "wb") as out:
                for part in (certificate.cert, certificate.key):
                    with open(part, "rb") as file:
                        out.write(file.read())
            yield path

    def _config(self):
        rosters = "".join(
            f'  "{domain}":\n    modules:\n      mod_roster:\n'
            + "".join(f"        {key}: {_yaml(value)}\n" for key, value in options.items())
            for domain, options in MODES.values())
        path = os.path.join(self.folder, "ejabberd.yml")
        with open(path, "w", encoding="ascii") as config:
            config.write(CONFIG.format(
                hosts=", ".join(f'"{domain}"' for domain, _ in MODES.values()), port=self.port,
                api_port=self.api_port, rosters=rosters,
                certificates=", ".join(f'"{path}"' for path in self._certificates())))
        return path

    def start(self):
        os.makedirs(self.folder, exist_ok=True)
        env = dict(os.environ, EJABBERD_CONFIG_PATH=self._config(), HOME=self.folder,
                   ERL_LIBS="/usr/lib/x86_64-linux-gnu:/usr/lib/aarch64-linux-gnu",
                   EJABBERD_LOG_PATH=os.path.join(self.folder, "ejabberd.log"),
                   ERL_CRASH_DUMP_BYTES="0")
        self.child = Child(["erl", "+K", "true", "+S", "2:2", "-noinput", "-mnesia", "dir",
                            f'"{self.folder}/mnesia"', "-ejabberd", "quiet", "true", "-s", "ejabberd"],
                           os.path.join(self.folder, "ejabberd.out"), env=env, cwd=self.folder)
        ready(self.child, lambda: can_connect("127.0.0.1", self.port)
              and can_connect("127.0.0.1", self.api_port), 60, "ejabberd listens")

    def stop(self):
        """Its state is nobody's: ended with its helpers, without a farewell."""
        if self.child is not None:
            self.child.kill()
            self.child = None

    # --- administration -----------------------------------------------------------------------------
    def command(self, name, /, **arguments):
        """A command of ejabberdctl, over HTTP."""
        connection = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=deadline(20))
        connection.request("POST", "/api/" + name, json.dumps(arguments),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{name} {arguments}: {answer.status} {body[:500]!r}")
        return json.loads(body)

    def add(self, name, domain, password=PASSWORD, roster=None):
        """roster: dicts as API.md section 1 shows them. Nobody is signed in, so nothing is pushed."""
        if self.command("check_account", user=name, host=domain) != 0:
            self.command("register", user=name, host=domain, password=password)
        for item in roster or ():
            self.put(name, domain, item)
        return f"{name}@{domain}"

    def put(self, name, domain, item):
        local, at, host = item["jid"].rpartition("@")
        self.command("add_rosteritem", localuser=name, localhost=domain, user=local, host=host,
                     nick=item.get("name") or "", group=";".join(item.get("groups", ())),
                     subs=item.get("subscription", "none"))

    def account(self, domain, name="juliet", password=PASSWORD, roster=None):
        """An account that no other test has: name-mark-number@domain."""
        return self.add(f"{name}-{self._marks}-{next(self._numbers)}", domain, password, roster)
