"""Where the gateway listens and whose address counts (API 8; issue 3, 5)."""
import os
import socket
import stat

import pytest

from fakes.http_client import Api, raw_status
from fakes.roster_model import Item
from fakes.sse import SseClient
from fakes.support import can_connect, wait_until


@pytest.fixture
def juliet_account(fake):
    fake.add("juliet", items=[Item("romeo@example.net")])
    return "juliet@example.com"


def test_unix_socket(fake, make_gateway, socket_folder, juliet_account):
    path = os.path.join(socket_folder, "rg.sock")
    gateway = make_gateway(fake, server={"listen": "unix:" + path})
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    # The proxy runs as another user: it must be let in.
    assert os.stat(path).st_mode & 0o777 in (0o660, 0o666)
    api = gateway.sign_in(juliet_account)
    assert len(api.items()) == 1
    with SseClient(api) as stream:
        stream.wait_sync()
        fake.change("juliet", Item("a@example.com"))
        stream.wait_item("a@example.com")
    gateway.restart()
    assert gateway.sign_in(juliet_account).get("/v1/roster").status == 200
    gateway.stop()
    assert not os.path.exists(path), "the socket file was left behind"


def test_a_listener_passed_by_the_service_manager(fake, make_gateway, juliet_account):
    """LISTEN_FDS: descriptor 3. It stays alive over a restart: nothing is refused in between."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        port = listener.getsockname()[1]

        # LISTEN_PID must be the pid of the process that is executed: a shell puts it there.
        gateway = make_gateway(fake, start=False, env={"LISTEN_FDS": "1"})
        gateway.binary = _wrapper(gateway.folder, gateway.binary)
        gateway.start(pass_fds=(3,), preexec=lambda: os.dup2(listener.fileno(), 3, inheritable=True))
        api = Api(("127.0.0.1", port)).sign_in(juliet_account)
        assert len(api.items()) == 1
        assert not can_connect("127.0.0.1", gateway.port), "it listens on the configured port as well"
        gateway.stop()
        # The manager's socket still accepts; the next instance answers what queued up meanwhile.
        waiting = socket.create_connection(("127.0.0.1", port), timeout=5)
        waiting.sendall(b"GET /v1/roster HTTP/1.1\r\nHost: x\r\n\r\n")
        gateway.start(pass_fds=(3,), preexec=lambda: os.dup2(listener.fileno(), 3, inheritable=True))
        waiting.settimeout(10)
        assert raw_status(waiting.recv(4096)) == 401
        waiting.close()


def _wrapper(folder, binary):
    """A shell that becomes the gateway, so that LISTEN_PID is right, as the service manager sets it."""
    path = os.path.join(folder, "activated")
    with open(path, "w", encoding="ascii") as script:
        script.write(f'#!/bin/sh\nLISTEN_PID=$$ exec "{binary}" "$@"\n')
    os.chmod(path, 0o755)
    return path


def failures(api, forwarded, n):
    return [api.post("/v1/session", {"jid": f"nobody{os.urandom(4).hex()}@example.com", "password": "x"},
                     headers={"X-Forwarded-For": forwarded} if forwarded else None).status
            for _ in range(n)]


def test_failures_are_counted_per_forwarded_address(fake, make_gateway):
    """From a trusted peer the right-most untrusted hop counts; v4 by /24, v6 by /64."""
    gateway = make_gateway(fake, limits={"signin_failures_address": 2})
    api = gateway.api()
    assert failures(api, "198.51.100.7", 3) == [401, 401, 429]
    assert failures(api, "198.51.100.8", 1) == [429], "the same /24"
    assert failures(api, "198.51.101.7", 1) == [401]
    assert failures(api, "1.2.3.4, 198.51.100.9", 1) == [429], "only the right-most hop is believed"
    assert failures(api, "198.51.100.9, 127.0.0.1", 1) == [429], "trusted hops are passed over"
    assert failures(api, "2001:db8:0:1::1", 3) == [401, 401, 429]
    assert failures(api, "2001:db8:0:1:ffff::2", 1) == [429], "the same /64"
    assert failures(api, "2001:db8:0:2::1", 1) == [401]


def test_a_trusted_peer_without_the_header_has_no_address(fake, make_gateway):
    """No per-address limit applies."""
    gateway = make_gateway(fake, limits={"signin_failures_address": 2})
    assert failures(gateway.api(), None, 5) == [401] * 5


def test_an_untrusted_peer_is_its_own_address(fake, make_gateway):
    gateway = make_gateway(fake, server={"trusted_proxies": []}, limits={"signin_failures_address": 2})
    statuses = [failures(gateway.api(), f"198.51.{n}.1", 1)[0] for n in range(4)]
    assert statuses == [401, 401, 429, 429]


@pytest.mark.parametrize("forwarded", ["", "nonsense", "1.2.3.4:99", "[2001:db8::1]:80", "unknown",
                                       "1.2.3.4, , 5.6.7.8", "x" * 2000, "::ffff:198.51.100.1", "300.1.1.1"])
def test_odd_forwarded_headers_are_no_crash(fake, make_gateway, forwarded, juliet_account):
    api = make_gateway(fake).api()
    response = api.post("/v1/session", {"jid": juliet_account, "password": "x"},
                        headers={"X-Forwarded-For": forwarded})
    assert response.status in (400, 401), response


def test_streams_per_address(fake, make_gateway, juliet_account):
    gateway = make_gateway(fake, limits={"streams_address": 2, "streams_user": 10})
    api = gateway.sign_in(juliet_account)
    near = {"X-Forwarded-For": "198.51.100.1"}
    streams = [SseClient(api, headers=near) for _ in range(2)]
    for stream in streams:
        stream.wait_sync()
    refused = SseClient(api, headers=near)
    assert refused.status == 429 and refused.problem()["code"] == "too-many-requests"
    with SseClient(api, headers={"X-Forwarded-For": "203.0.113.9"}) as other:
        other.wait_sync()
    for stream in streams:
        stream.close()


def test_connections_in_all_are_limited_by_503(fake, make_gateway, juliet_account):
    gateway = make_gateway(fake, limits={"connections": 20})
    api = gateway.sign_in(juliet_account)
    held = []
    answers = []
    for _ in range(40):
        sock = api.connect()
        held.append(sock)
        sock.sendall(b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.settimeout(10)
        try:
            answers.append(raw_status(sock.recv(4096)))
        except OSError:
            answers.append(None)
    assert answers[:10] == [404] * 10 or answers[:10] == [401] * 10, answers
    assert set(answers[25:]) <= {503, None} and 503 in answers, answers
    for sock in held:
        sock.close()
    wait_until(lambda: gateway.api().get("/v1/nothing", check=False).status in (401, 404), 20,
               "connections are free again", 0.1)


def test_operations_are_not_on_the_public_listener_and_the_other_way_round(gateway):
    for path in ("/livez", "/readyz", "/metrics"):
        assert gateway.api().get(path).status == 404
        assert gateway.operations(path).status == 200
    assert gateway.operations("/v1/roster").status == 404
    assert gateway.operations("/rostergate.js").status == 404
