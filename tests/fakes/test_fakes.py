"""The tests' own servers and clients, against each other and against slixmpp, Prosody and nginx: a fake
that lies about itself would make every flow test worthless."""
import http.server
import os
import socket
import threading

import pytest

from fakes import misbehaviour, nginx
from fakes.certs import Authority
from fakes.fault_proxy import FaultProxy
from fakes.http_client import Api, raw_status
from fakes.prosody import Prosody
from fakes.roster_model import Item, removal
from fakes.sites import SEED, item
from fakes.sse import Parser
from fakes.support import PASSWORD, wait_until
from fakes.witness import Witness
from fakes.xmpp_server import FakeServer
from fakes.xmpp_stream import ROSTER, tag


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def fake(authority):
    server = FakeServer(authority.issue("example.com"))
    server.add("juliet", items=[Item("romeo@example.net", "Romeo", ["Friends"], "both")])
    yield server
    server.close()


@pytest.fixture
def witness(fake, authority):
    client = Witness("juliet@example.com", PASSWORD, fake.port, authority.cert)
    yield client
    client.close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-1"])
def test_sign_in_over_tls_by_each_mechanism(fake, authority, mechanism):
    fake.mechanisms = [mechanism]
    client = Witness("juliet@example.com", PASSWORD, fake.port, authority.cert)
    assert client.items() == {"romeo@example.net": item("romeo@example.net", "Romeo", ["Friends"],
                                                        "both")}
    client.close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-1"])
@pytest.mark.parametrize("jid", ["juliet@example.com", "nobody@example.com"])
def test_a_wrong_password_is_refused(fake, authority, mechanism, jid):
    fake.mechanisms = [mechanism]
    with pytest.raises(PermissionError):
        Witness(jid, "wrong", fake.port, authority.cert)
    assert fake.refusals.all()[0][1] == "not-authorized"


def test_a_set_is_stored_pushed_and_recorded(fake, witness):
    witness.set_item("nurse@example.com", "Nurse é <&>\"", ["Servants", "A"])
    assert witness.items()["nurse@example.com"] == item("nurse@example.com", "Nurse é <&>\"",
                                                        ["A", "Servants"])
    [record] = fake.sets("juliet")
    assert len(record.items) == 1 and record.items[0].get("subscription") is None
    witness.remove_item("nurse@example.com")
    assert fake.sets("juliet")[1].items[0].get("subscription") == "remove"
    assert list(witness.items()) == ["romeo@example.net"]


@pytest.mark.parametrize("order", ["result-first", "push-first"])
def test_order_of_result_and_push(fake, witness, order):
    fake.order = order
    seen = []
    for name in ("result", "set"):
        witness.client.register_handler(_Tap(name, seen))
    witness.set_item("nurse@example.com")
    wait_until(lambda: len(seen) >= 2, what="result and push")
    assert seen[:2] == (["result", "set"] if order == "result-first" else ["set", "result"])


def _Tap(kind, seen):          # pylint: disable=invalid-name
    from slixmpp.xmlstream.handler import Callback
    from slixmpp.xmlstream.matcher import MatchXPath

    def note(stanza):
        if stanza["type"] == kind:
            seen.append(kind)
    return Callback(f"tap {kind}", MatchXPath("{jabber:client}iq"), note)


def test_a_change_from_outside_is_pushed_and_its_answer_recorded(fake, witness):
    ids = fake.change("juliet", Item("x@example.com", "X"))
    fake.wait_acknowledged(*ids)
    witness.client.pushes.wait_for(lambda iq: "x@example.com" in str(iq))
    fake.change("juliet", removal("x@example.com"))
    wait_until(lambda: "x@example.com" not in witness.items(), what="removal")


def test_versions_of_all_kinds(fake):
    account = fake.accounts["juliet"]
    before = {how: account.ver(how) for how in ("counter", "hash", "constant", "none")}
    account.put(Item("a@example.com"))
    changed = {how: account.ver(how) for how in before}
    account.remove("a@example.com")
    assert before["counter"] != changed["counter"] and before["hash"] != changed["hash"]
    assert account.ver("hash") == before["hash"] and account.ver("counter") != before["counter"]
    assert before["constant"] == changed["constant"] and before["none"] is None


def test_hooks_replace_the_default_and_run_out(fake, witness):
    fake.hook("roster_set", misbehaviour.error("forbidden", "auth"), times=1)
    from slixmpp.exceptions import IqError
    with pytest.raises(IqError) as refused:
        witness.set_item("nurse@example.com")
    assert refused.value.condition == "forbidden"
    witness.set_item("nurse@example.com")
    assert "nurse@example.com" in witness.items()


def test_raw_push_reaches_the_session_as_written(fake, witness):
    fake.wait_session("juliet")
    fake.push_raw("juliet", Item("forged@example.com").xml(), from_="eve@example.com", id_="evil")
    fake.push_raw("juliet", "", ver="v2", id_="empty")
    fake.wait_acknowledged("empty")


def test_the_stream_keeps_text_and_attributes(fake):
    seen = []
    sock = socket.create_connection(("127.0.0.1", fake.port))
    fake.hook("stanza", lambda session, element: seen.append(element) or True)
    sock.sendall(b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>")
    for byte in b"<iq id='\xc3\xa9'><query xmlns='jabber:iq:roster'>a<item/>b&lt;</query></iq>":
        sock.sendall(bytes([byte]))
    [element] = wait_until(lambda: seen, what="stanza")
    query = element.find(tag("query", ROSTER))
    assert (element.get("id"), query.text, query[0].tail) == ("é", "a", "b<")
    sock.close()


def test_not_well_formed_input_ends_the_stream(fake):
    sock = socket.create_connection(("127.0.0.1", fake.port))
    sock.sendall(b"<stream:stream xmlns='jabber:client' xmlns:stream='x'><a></b>")
    got = b""
    while True:
        more = sock.recv(4096)
        if not more:
            break
        got += more
    assert b"not-well-formed" in got and len(fake.parse_errors) == 1


def test_refuse_and_listen_again_on_the_same_port(fake):
    fake.go_away()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", fake.port), timeout=2)
    fake.listen()
    socket.create_connection(("127.0.0.1", fake.port), timeout=2).close()


def test_subscriptions_move_both_rosters(fake, authority):
    fake.add("nurse")
    juliet = Witness("juliet@example.com", PASSWORD, fake.port, authority.cert, available=True)
    nurse = Witness("nurse@example.com", PASSWORD, fake.port, authority.cert, available=True)
    wait_until(lambda: fake.sessions_of("nurse")[0].presence is not None, what="presence")
    juliet.presence("nurse@example.com", "subscribe")
    nurse.client.presences.wait_for(lambda p: p["type"] == "subscribe")
    assert juliet.items()["nurse@example.com"]["ask"] == "subscribe"
    nurse.presence("juliet@example.com", "subscribed")
    wait_until(lambda: juliet.items()["nurse@example.com"]["subscription"] == "to", what="to")
    assert juliet.items()["nurse@example.com"]["ask"] is None
    assert nurse.items()["juliet@example.com"]["subscription"] == "from"
    nurse.presence("juliet@example.com", "unsubscribed")
    wait_until(lambda: juliet.items()["nurse@example.com"]["subscription"] == "none", what="none")
    juliet.close()
    nurse.close()


def test_fault_proxy_cuts_stalls_truncates(authority):
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = FaultProxy("127.0.0.1", listener.getsockname()[1])

    def link():
        client = socket.create_connection(("127.0.0.1", proxy.port))
        server, _ = listener.accept()
        client.settimeout(5)
        server.settimeout(5)
        client.sendall(b"ping")
        assert server.recv(4) == b"ping"
        return client, server

    client, server = link()
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    client, server = link()
    proxy.stall()
    server.sendall(b"held")
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.recv(4)
    proxy.go_on()
    client.settimeout(5)
    assert client.recv(4) == b"held"
    proxy.truncate_after(2)
    server.sendall(b"held")
    assert client.recv(4) == b"he" and client.recv(4) == b""
    proxy.refuse()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=2)
    proxy.close()
    listener.close()


def _parsed(*chunks):
    events, comments, retries = [], [], []
    parser = Parser(lambda *e: events.append(e), comments.append, retries.append)
    for chunk in chunks:
        parser.feed(chunk)
    return events, comments, retries


def test_sse_parser_follows_the_standard():
    text = ("retry: 1500\n\n: hello\n\nid: a-1\nevent: roster\ndata: {\ndata: }\n\n"
            "event: nothing\n\ndata\n\ndata:  x\n\n").encode()
    wanted = ([("roster", "{\n}", "a-1"), ("message", "", None), ("message", " x", None)],
              [" hello"], [1500])
    assert _parsed(text) == wanted
    assert _parsed(*(bytes([b]) for b in text)) == wanted


@pytest.mark.parametrize("bad", [b"data: \xff\n\n", b"\xef\xbb\xbfdata: x\n\n", b"data: x\r\n\r\n",
                                 b"dat: x\n\n", b"retry: 1s\n\n"])
def test_sse_parser_refuses_what_the_gateway_must_not_send(bad):
    with pytest.raises((AssertionError, UnicodeDecodeError)):
        _parsed(bad)


def test_prosody_serves_accounts_and_rosters_written_as_files(tmp_path, authority):
    server = Prosody(tmp_path, authority.issue("example.com"))
    jid = server.account(roster=[*SEED, {"jid": "q@example.com", "name": "Q\"\\\né", "groups": ["ü"]}])
    client = Witness(jid, PASSWORD, server.port, authority.cert)
    held = client.items()
    assert held["romeo@example.net"] == item("romeo@example.net", "Romeo", ["Friends"], "both")
    assert held["q@example.com"]["groups"] == ["ü"] and len(held) == 4
    client.set_item("nurse@example.com", "Nurse", ["Servants"])
    assert client.items()["nurse@example.com"] == item("nurse@example.com", "Nurse", ["Servants"])
    client.close()
    server.set_password(jid, "another-one")
    with pytest.raises(PermissionError):
        Witness(jid, PASSWORD, server.port, authority.cert)
    server.stop()


def test_nginx_passes_requests_on(tmp_path):
    class Answer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):        # pylint: disable=invalid-name
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.send_header("X-Request-Id", "1")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    conf = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy", "nginx.conf")
    proxy = nginx.Nginx(tmp_path, conf, [f"127.0.0.1:{upstream.server_port}"])
    api = Api(proxy.address)
    assert api.get("/v1/roster").body == b"ok"
    assert raw_status(api.raw(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")) == 200
    proxy.stop()
    upstream.shutdown()
