"""Bytes that no HTTP library would send: framing, smuggling, oversized heads, dribbling clients (facts,
libmicrohttpd 7; API 6)."""
import socket
import time

import pytest

from fakes.http_client import raw_status
from fakes.support import deadline, wait_until


@pytest.fixture(scope="module")
def api(fake_site):
    return fake_site.signed_in()[1]


def request(api, *headers, method="GET", path="/v1/roster", body=b"", version="HTTP/1.1", host=True):
    lines = [f"{method} {path} {version}"] + (["Host: localhost"] if host else []) + [
        f"Authorization: Bearer {api.token}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def test_the_good_case_works(api):
    assert raw_status(api.raw(request(api))) == 200


BAD_HEADS = {
    "no host": dict(host=False),
    "two hosts": dict(headers=["Host: other"]),
    "host with a space before the colon": dict(host=False, headers=["Host : localhost"]),
    "two content lengths": dict(headers=["Content-Length: 2", "Content-Length: 3"], method="PUT",
                                path="/v1/roster/items/a@example.com", body=b"{}"),
    "two equal content lengths": dict(headers=["Content-Length: 2", "Content-Length: 2"], method="PUT",
                                      path="/v1/roster/items/a@example.com", body=b"{}"),
    "length and chunked": dict(headers=["Content-Length: 2", "Transfer-Encoding: chunked"],
                               method="PUT", path="/v1/roster/items/a@example.com",
                               body=b"0\r\n\r\n"),
    "transfer coding gzip": dict(headers=["Transfer-Encoding: gzip"], method="PUT",
                                 path="/v1/roster/items/a@example.com", body=b"{}"),
    "transfer coding gzip, chunked": dict(headers=["Transfer-Encoding: gzip, chunked"], method="PUT",
                                          path="/v1/roster/items/a@example.com", body=b"0\r\n\r\n"),
    "two transfer codings": dict(headers=["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
                                 method="PUT", path="/v1/roster/items/a@example.com",
                                 body=b"0\r\n\r\n"),
    "chunked with a vertical tab": dict(headers=["Transfer-Encoding: \x0bchunked"], method="PUT",
                                        path="/v1/roster/items/a@example.com", body=b"0\r\n\r\n"),
    "negative length": dict(headers=["Content-Length: -1"], method="PUT"),
    "length in words": dict(headers=["Content-Length: two"], method="PUT"),
    "length with plus": dict(headers=["Content-Length: +2"], method="PUT", body=b"{}"),
    "length in hex": dict(headers=["Content-Length: 0x2"], method="PUT", body=b"{}"),
    "empty length": dict(headers=["Content-Length: "], method="PUT", body=b"{}"),
    "a list of lengths": dict(headers=["Content-Length: 2, 2"], method="PUT", body=b"{}"),
    "folded header": dict(headers=["X-A: b\r\n c"]),
    "another protocol": dict(version="FOO/1.1"),
    "two authorizations": dict(headers=["Authorization: Bearer other"]),
}


@pytest.mark.parametrize("name", BAD_HEADS)
def test_ambiguous_or_broken_heads_are_refused(fake_site, api, name):
    how = dict(BAD_HEADS[name])
    headers = how.pop("headers", [])
    smuggled = b"GET /v1/session HTTP/1.1\r\nHost: smuggled\r\n\r\n"
    answer = api.raw(request(api, *headers, **how) + smuggled)
    status = raw_status(answer)
    assert status is None or 400 <= status < 500, answer[:300]
    # The connection is closed: what follows is never taken for a request of its own.
    assert answer.count(b"HTTP/1.1 200") == 0 and answer.count(b"\"jid\"") == 0, answer
    assert fake_site.server.sets() == []


@pytest.mark.parametrize("header", [": x", "X-A: a\0b", "X-A", "X A: b", "X-A:b\nX-C: d"])
def test_odd_headers_do_no_harm(api, header):
    """libmicrohttpd lets them pass (facts 7); they name nothing that we read."""
    status = raw_status(api.raw(request(api, header)))
    assert status in (None, 200, 400), status
    assert api.get("/v1/roster").status == 200


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_length_beyond_all_numbers(api, method):
    answer = api.raw(request(api, "Content-Length: 18446744073709551617", method=method,
                             path="/v1/session"))
    assert raw_status(answer) in (400, 413)


@pytest.mark.parametrize("data", [
    b"\r\n\r\n", b"GET\r\n\r\n", b"GET /v1/roster\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x00" * 100, b"GET  /v1/roster HTTP/1.1\r\n\r\n", b"GET /v1/roster HTTP/9.9\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"A" * 70000, b"GET / HTTP/1.1\r\n" + b"a" * 40000],
    ids=range(10))
def test_garbage(fake_site, api, data):
    try:
        status = raw_status(api.raw(data + b"\r\n\r\n", timeout=deadline(30)))
        assert status is None or 400 <= status < 600
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert api.get("/v1/roster").status == 200


def test_a_head_that_is_too_big(api):
    answer = api.raw(request(api, *[f"X-Filler-{n}: {'x' * 900}" for n in range(60)]))
    assert raw_status(answer) in (400, 413, 431, None)
    assert api.get("/v1/roster").status == 200


def test_a_big_head_on_the_stream_is_no_crash(api):
    """The event daemon has 8 KiB for the head of a request."""
    answer = api.raw(request(api, "X-Filler: " + "x" * 12000, path="/v1/events"))
    assert raw_status(answer) in (400, 413, 431, None)


def test_chunked_bodies_are_read(fake_site):
    _, api = fake_site.signed_in()
    body = b'{"name": "Nurse"}'
    chunks = b"".join(b"%x\r\n%c\r\n" % (1, c) for c in body) + b"0\r\n\r\n"
    answer = api.raw(request(api, "Transfer-Encoding: chunked", "Content-Type: application/json",
                             method="PUT", path="/v1/roster/items/nurse@example.com", body=chunks))
    assert raw_status(answer) == 201, answer


def test_a_chunked_body_that_is_too_large(api):
    body = b"ffff\r\n" + b"x" * 65535 + b"\r\n" + b"ffff\r\n" + b"x" * 65535 + b"\r\n0\r\n\r\n"
    answer = api.raw(request(api, "Transfer-Encoding: chunked", "Content-Type: application/json",
                             method="PUT", path="/v1/roster/items/nurse@example.com", body=body))
    assert raw_status(answer) in (413, None)


def test_requests_split_at_every_byte(api):
    data = request(api)
    assert raw_status(api.raw(None, parts=[bytes([b]) for b in data])) == 200


def test_pipelined_requests_are_answered_in_order(fake_site):
    _, api = fake_site.signed_in()
    body = b'{"name": "Nurse"}'
    data = (request(api, "Content-Type: application/json", f"Content-Length: {len(body)}", method="PUT",
                    path="/v1/roster/items/nurse@example.com", body=body)
            + request(api, "X-Request-Id: second", path="/v1/roster/items/nurse@example.com")
            + request(api, "Connection: close", "X-Request-Id: third", path="/v1/session"))
    with api.connect() as sock:
        sock.sendall(data)
        got = b""
        while True:
            more = sock.recv(65536)
            if not more:
                break
            got += more
    assert got.index(b"HTTP/1.1 201") < got.index(b"second") < got.index(b"third")
    assert got.count(b"HTTP/1.1 ") == 3


def test_a_client_that_leaves_midway_costs_nothing(fake_site):
    _, api = fake_site.signed_in()
    for cut in range(0, len(request(api)), 17):
        sock = api.connect()
        sock.sendall(request(api)[:cut])
        sock.close()
    fake = fake_site.server
    before = len(fake.sets())
    sock = api.connect()
    body = b'{"name": "Left"}'
    sock.sendall(request(api, "Content-Type: application/json", f"Content-Length: {len(body)}",
                         method="PUT", path="/v1/roster/items/left@example.com", body=body))
    sock.close()
    wait_until(lambda: len(fake.sets()) > before, what="the write of the client that left")
    wait_until(lambda: "left@example.com" in api.items(), what="the write to be visible")


@pytest.mark.slow
def test_a_head_that_dribbles_is_cut_after_ten_seconds(api):
    """Slow loris: a byte a second for ever."""
    start = time.monotonic()
    sock = api.connect()
    sock.settimeout(1)
    head = request(api)
    sent = 0
    while time.monotonic() - start < deadline(25):
        try:
            if sent < len(head) - 4:
                sock.sendall(head[sent:sent + 1])
                sent += 1
            if sock.recv(4096) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    else:
        raise AssertionError("still open after 25 s")
    assert time.monotonic() - start < deadline(16)
    sock.close()


def test_half_open_connections_do_not_block_others(api):
    held = []
    for _ in range(150):
        sock = api.connect()
        sock.sendall(b"GET /v1/ros")
        held.append(sock)
    start = time.monotonic()
    assert api.get("/v1/roster").status == 200
    assert time.monotonic() - start < deadline(2)
    for sock in held:
        sock.close()


def test_idle_connections_at_once_are_all_served(api):
    """128 ready connections stall libmicrohttpd's own epoll thread (facts 1.2); not ours."""
    socks = [api.connect() for _ in range(128)]
    for sock in socks:
        sock.sendall(request(api))
    for sock in socks:
        sock.settimeout(deadline(10))
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
    for sock in socks:
        sock.sendall(request(api))
    for sock in socks:
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()
