"""An independent XMPP client (slixmpp) on the same account: it changes the roster from outside and says
what the server really holds."""
import asyncio

from slixmpp import ClientXMPP

from .support import Reactor, Recorder, deadline

ROSTER = "jabber:iq:roster"


class _Client(ClientXMPP):
    def __init__(self, jid, password, loop):
        super().__init__(jid, password)
        self.loop = loop
        self.pushes = Recorder()
        self.presences = Recorder()
        self.add_event_handler("roster_update", self._updated)
        self.add_event_handler("presence", self.presences.add)
        for kind in ("subscribe", "subscribed", "unsubscribe", "unsubscribed"):
            self.add_event_handler("presence_" + kind, self.presences.add)
        # It only does what the test says.
        self.auto_authorize = None
        self.auto_subscribe = False

    def _updated(self, iq):
        if iq["type"] == "set":
            self.pushes.add(iq)


class Witness:
    """Signed in and with its roster read when the constructor returns."""

    def __init__(self, jid, password, port, ca_file, available=False):
        self.reactor = Reactor.shared()
        self.jid = jid
        self.client = self.reactor.call(_Client, jid, password, self.reactor.loop)
        self.client.ca_certs = ca_file
        if ca_file is None:
            self.client.disable_starttls = True
            self.client["feature_mechanisms"].unencrypted_plain = True
            self.client["feature_mechanisms"].unencrypted_scram = True
        self.reactor.wait(self._start(port, available))

    async def _start(self, port, available):
        loop = asyncio.get_running_loop()
        started = loop.create_future()

        def settle(value):
            if not started.done():
                if isinstance(value, Exception):
                    started.set_exception(value)
                else:
                    started.set_result(None)

        self.client.add_event_handler("session_start", lambda _: settle(None))
        self.client.add_event_handler("failed_all_auth",
                                      lambda _: settle(PermissionError("credentials refused")))
        self.client.add_event_handler("connection_failed",
                                      lambda why: settle(ConnectionError(str(why))))
        self.client.connect(("127.0.0.1", port), use_ssl=False,
                            disable_starttls=self.client.ca_certs is None)
        await asyncio.wait_for(started, deadline(20))
        await self.client.get_roster()
        if available:
            self.client.send_presence(ppriority=-1)

    def _iq(self, build):
        async def run():
            return await build().send(timeout=deadline(10))
        return self.reactor.wait(run())

    def _set(self, **item):
        jid = item.pop("jid")

        def build():
            iq = self.client.Iq()
            iq["type"] = "set"
            iq["roster"].set_items({jid: item})
            return iq
        return self._iq(build)

    def set_item(self, jid, name="", groups=()):
        return self._set(jid=jid, name=name, groups=list(groups))

    def remove_item(self, jid):
        return self._set(jid=jid, subscription="remove")

    def presence(self, to, kind):
        self.reactor.call(lambda: self.client.send_presence(pto=to, ptype=kind))

    def items(self):
        """The server's roster now, as API.md shows items: {jid: item}."""

        def build():
            iq = self.client.Iq()
            iq["type"] = "get"
            iq.enable("roster")
            return iq
        answer = self._iq(build)
        found = {}
        for element in answer.xml.iter("{%s}item" % ROSTER):
            found[element.get("jid")] = {
                "jid": element.get("jid"), "name": element.get("name") or None,
                "groups": sorted(g.text or "" for g in element.iter("{%s}group" % ROSTER)),
                "subscription": element.get("subscription", "none"), "ask": element.get("ask"),
                "approved": element.get("approved") in ("true", "1")}
        return found

    def close(self):
        async def run():
            self.client.disconnect(wait=0)
            # slixmpp 1.8 leaves this task to the end of the loop, which then complains about it.
            filters = getattr(self.client, "_run_out_filters", None)
            if filters is not None:
                filters.cancel()
            await asyncio.sleep(0)
        self.reactor.wait(run())
