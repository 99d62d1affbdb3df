"""A gateway and the XMPP server behind it, with one face for real Prosody and the fake server, so that a
test runs over both."""
import itertools

from .ejabberd import MODES
from .roster_model import Item
from .support import PASSWORD
from .witness import Witness

SEED = (
    {"jid": "benvolio@example.com", "name": "Benvolio", "groups": [], "subscription": "both"},
    {"jid": "mercutio@example.com", "name": "Mercutio", "groups": [], "subscription": "from"},
    {"jid": "romeo@example.net", "name": "Romeo", "groups": ["Friends"], "subscription": "both"},
)


def item(jid, name=None, groups=(), subscription="none", ask=None, approved=False):
    """An item as API.md section 1 shows it."""
    return {"jid": jid, "name": name, "groups": sorted(groups), "subscription": subscription,
            "ask": ask, "approved": approved}


class Site:
    kind = ""
    versioning = True           # does the server version its rosters?

    def __init__(self, server, gateway, authority):
        self.server = server
        self.gateway = gateway
        self.authority = authority

    def witness(self, jid, password=PASSWORD, **how):
        """Another XMPP client of the account."""
        return Witness(jid, password, self.server.port, self.authority.cert, **how)

    def signed_in(self, roster=(), **members):
        """An account of its own with this roster, signed in: (jid, client)."""
        jid = self.account(roster)
        return jid, self.gateway.sign_in(jid, **members)

    def account(self, roster=()):
        raise NotImplementedError


class ProsodySite(Site):
    kind = "prosody"

    def account(self, roster=()):
        return self.server.account(roster=list(roster) or None)

    def set_roster(self, jid, roster):
        """Before the first sign-in of the account."""
        self.server.add(jid.partition("@")[0], roster=roster)


class EjabberdSite(Site):
    def __init__(self, kind, server, gateway, authority):
        super().__init__(server, gateway, authority)
        self.kind = kind
        self.domain, options = MODES[kind]
        self.versioning = options["versioning"]

    def account(self, roster=()):
        return self.server.account(self.domain, roster=roster)

    def set_roster(self, jid, roster):
        """Before the first sign-in of the account."""
        self.server.add(jid.partition("@")[0], self.domain, roster=roster)


class FakeSite(Site):
    kind = "fake"
    _numbers = itertools.count(1)

    def account(self, roster=()):
        name = f"juliet-{next(self._numbers)}"
        self.set_roster(name, roster)
        return f"{name}@{self.server.domain}"

    def set_roster(self, jid, roster):
        self.server.add(jid.partition("@")[0], items=None if roster is None else [
            Item(i["jid"], i.get("name"), i.get("groups", ()), i.get("subscription", "none"),
                 i.get("ask"), i.get("approved")) for i in roster])
