"""Accounts and rosters of the fake XMPP server, with the subscription states of RFC 6121 as far as
presence stanzas between its own accounts move them."""
import hashlib
from xml.sax.saxutils import escape

from .xmpp_stream import attrs


class Item:
    """One roster item as the server holds it. subscription None: no attribute is written."""

    def __init__(self, jid, name=None, groups=(), subscription="none", ask=None, approved=None):
        self.jid = jid
        self.name = name
        self.groups = list(groups)
        self.subscription = subscription
        self.ask = ask
        self.approved = approved

    def xml(self):
        body = "".join(f"<group>{escape(group)}</group>" for group in self.groups)
        head = attrs(jid=self.jid, name=self.name, subscription=self.subscription, ask=self.ask,
                     approved=None if self.approved is None else str(self.approved).lower())
        return f"<item{head}>{body}</item>" if body else f"<item{head}/>"

    def json(self):
        """As API.md section 1 shows it."""
        return {"jid": self.jid, "name": self.name or None, "groups": sorted(set(self.groups)),
                "subscription": self.subscription or "none", "ask": self.ask,
                "approved": bool(self.approved)}

    def __repr__(self):
        return self.xml()


def removal(jid):
    return Item(jid, subscription="remove")


class Account:
    """`items` None: the server has no roster for this account (item-not-found)."""

    def __init__(self, name, password, items=()):
        self.name = name
        self.password = password
        self.items = None if items is None else {item.jid: item for item in items}
        self.changes = 1
        self.incoming = set()

    def ver(self, how):
        """how: counter, hash, constant, or none."""
        if how == "none":
            return None
        if how == "constant":
            return "always-the-same"
        if how == "hash":
            text = "".join(self.items[jid].xml() for jid in sorted(self.items or {}))
            return hashlib.sha1(text.encode("utf-8", "surrogatepass")).hexdigest()
        return str(self.changes)

    def put(self, item):
        if self.items is None:
            self.items = {}
        self.items[item.jid] = item
        self.changes += 1
        return item

    def set_by_client(self, jid, name, groups):
        """A roster set: subscription, ask and approved stay what they were (RFC 6121 2.1.2)."""
        old = (self.items or {}).get(jid)
        item = Item(jid, name, groups)
        if old is not None:
            item.subscription, item.ask, item.approved = old.subscription, old.ask, old.approved
        return self.put(item)

    def remove(self, jid):
        self.changes += 1
        return (self.items or {}).pop(jid, None)

    # --- subscriptions; each returns the item to push, or None ----------------------------------
    def move(self, jid, direction, on, ask=None, create=False):
        """Sets or clears 'to' or 'from' in the item's subscription."""
        old = (self.items or {}).get(jid)
        if old is None:
            if not create:
                return None
            old = Item(jid)
        has = set({"both": ("to", "from"), "none": ()}.get(old.subscription, (old.subscription,)))
        (has.add if on else has.discard)(direction)
        new = "both" if len(has) == 2 else (has.pop() if has else "none")
        if jid in (self.items or {}) and (new, ask) == (old.subscription, old.ask):
            return None
        return self.put(Item(jid, old.name, old.groups, new, ask, old.approved))
