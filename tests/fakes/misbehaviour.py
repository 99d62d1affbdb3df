"""What an XMPP server may do wrong, one function each, to be used as a hook or called from a test.

Hooks: fn(session, element) -> True. See FakeServer.hook."""
from .roster_model import Item
from .xmpp_stream import BIND, ROSTER, SASL, STREAM, TLS, attrs


# --- before the session is up ---------------------------------------------------------------------
def silent(_session, _element):
    """Takes the stanza and never answers."""
    return True


def close(session, _element):
    session.drop()
    return True


def reset(session, _element):
    session.drop(reset=True)
    return True


def stall_tls(session, _element):
    """<proceed/>, then not one byte of the handshake."""
    session.write(f"<proceed xmlns='{TLS}'/>")
    session.hold = True
    session.data_received = lambda data: None
    return True


def no_starttls(session, _attributes):
    """A stripped feature: offers PLAIN without TLS."""
    if session.tls is not None:
        return False
    session.write("<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='%s'"
                  " version='1.0' id='x' from='%s'><stream:features><mechanisms xmlns='%s'>"
                  "<mechanism>PLAIN</mechanism></mechanisms></stream:features>"
                  % (STREAM, session.server.domain, SASL))
    return True


def sasl_failure(condition):
    def hook(session, _element):
        session.sasl_failure(condition)
        return True
    return hook


def bind_error(condition, kind="wait"):
    def hook(session, element):
        session.error(element, condition, kind)
        return True
    return hook


def bind_other_jid(jid):
    """Binds the session to somebody else's JID."""
    def hook(session, element):
        session.result(element, f"<bind xmlns='{BIND}'><jid>{jid}</jid></bind>")
        return True
    return hook


# --- answers ----------------------------------------------------------------------------------------
def error(condition, kind="cancel", text=None):
    def hook(session, element):
        session.error(element, condition, kind, text)
        return True
    return hook


def raw(data):
    """Sends data instead of the answer; {id} becomes the stanza's id."""
    def hook(session, element):
        text = data if isinstance(data, bytes) else data.replace("{id}", element.get("id", ""))
        session.write(text)
        return True
    return hook


def stream_error(condition, text=None):
    def hook(session, _element):
        session.stream_error(condition, text)
        return True
    return hook


def delayed(seconds, fn):
    """The default answer `fn(session, element)`, later."""
    def hook(session, element):
        session.later(seconds, fn, session, element)
        return True
    return hook


def result_without_push(session, element):
    """Says result and stores nothing (R32: no proof of a change)."""
    session.result(element)
    return True


def roster_result(inside, ver=None):
    """Any XML inside the roster query of a result."""
    def hook(session, element):
        session.interested = True
        session.result(element, f"<query xmlns='{ROSTER}'{attrs(ver=ver)}>{inside}</query>")
        return True
    return hook


def unchanged(session, element):
    """A result without <query/>."""
    session.interested = True
    session.result(element)
    return True


def half_roster(session, element):
    """Half of the answer, then the connection is cut."""
    whole = session.server.roster_xml(session.account)
    session.write(f"<iq type='result'{attrs(id=element.get('id'))}>{whole[:len(whole) // 2]}")
    session.later(0.05, session.drop)
    return True


def stranger_answers_first(sender, inside=""):
    """An iq result with the right id from somebody else, then the honest answer (R20)."""
    def hook(session, element):
        session.write(f"<iq type='result'{attrs(id=element.get('id'), from_=sender, to=session.jid)}>"
                      f"<query xmlns='{ROSTER}' ver='evil'>{inside}</query></iq>")
        return False
    return hook


def push_before_answer(item_xml, ver=None):
    """A push before the first result (R52)."""
    def hook(session, _element):
        session.server.push_to(session, item_xml, ver)
        return False
    return hook


# --- bytes on an open session -------------------------------------------------------------------------
GARBAGE = b"<a><b></a>"
HALF_STANZA = b"<message><body>and then"


def nested(levels):
    return b"<message>" + b"<a>" * levels + b"</a>" * levels + b"</message>"


def endless(session, megabytes):
    """A stanza that does not end, as far as the gateway takes it; True if all was taken."""
    session.send(b"<message><body>")
    for _ in range(megabytes):
        if session.closed:
            return False
        session.send(b"x" * 1048576)
    return not session.closed


def many_items(n, prefix="user", domain="example.net"):
    return [Item(f"{prefix}{i:05d}@{domain}", f"Name {i}", ["Many"], "both") for i in range(n)]


def raw_stream_error(condition):
    """A stream error instead of the features."""
    def hook(session, _attributes):
        session.write("<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='%s'"
                      " version='1.0' id='x' from='%s'>" % (STREAM, session.server.domain))
        session.stream_error(condition)
        return True
    return hook
