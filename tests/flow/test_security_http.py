"""Masses of what must never be accepted: 1,500 malformed requests, 500 JIDs, 500 bodies, 2,000 tokens, 60
cross-site combinations. Always a 4xx or a clean close, never a second handler, the same process after it.
Everything is drawn from one seed, so that a failure comes again."""
import base64
import errno
import itertools
import json
import os
import random
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from fakes.http_client import _complete, raw_status
from fakes.support import deadline

SEED = int(os.environ.get("RG_SEED", "20260822"))
SMUGGLED = (b"GET /v1/session HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: smuggled\r\n"
            b"Authorization: Bearer TOKEN\r\n\r\n")
WRITE = "/v1/roster/items/smuggled@example.com"


@pytest.fixture(scope="module")
def api(fake_site):
    client = fake_site.signed_in()[1]
    client.pid = fake_site.gateway.child.pid
    yield client
    assert fake_site.gateway.child.running() and fake_site.gateway.child.pid == client.pid
    assert client.items() == {}


def exchange(api, data):
    """Sends all, says that there is no more, reads to the end; where the connection is kept, as long as
    a second answer might still come. What is no whole head is waited for by the gateway (10 s, tested
    elsewhere), not by us."""
    answer = b""
    try:
        with api.connect() as sock:
            sock.settimeout(deadline(0.3))
            sock.sendall(data)
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError as error:    # refused and gone before all was said
                if error.errno != errno.ENOTCONN:
                    raise
            while True:
                more = sock.recv(65536)
                if not more:
                    return answer
                answer += more
                if b"\r\nConnection: close" not in answer and _complete(answer):
                    sock.settimeout(0.05)
    except TimeoutError:
        assert answer == b"" or _complete(answer), f"half an answer: {data[:200]!r} {answer[:200]!r}"
        return answer
    except ConnectionError:
        return answer


def refused_all(api, requests):
    """Each request alone on its connection, followed by a smuggled one where its end is in doubt."""
    with ThreadPoolExecutor(24) as pool:
        for request, answer in zip(requests, pool.map(lambda r: exchange(api, r), requests)):
            status = raw_status(answer)
            # 505: a version of HTTP that is not spoken (RFC 9110 15.6.6).
            assert status in (None, 505) or 400 <= status < 500, f"{status}: {request!r}"
            # Each handler's answer has exactly one of these; libmicrohttpd's own words have none.
            assert answer.count(b"\r\nX-Request-Id:") <= 1, f"{request[:300]!r}\n{answer!r}"
            assert b"X-Request-Id: smuggled" not in answer, request


def head(api, line, *lines, auth=True, host=True):
    parts = [line] + ([b"Host: localhost"] if host else [])
    if auth:
        parts.append(b"Authorization: Bearer " + api.token.encode())
    return b"\r\n".join(parts + list(lines)) + b"\r\n\r\n"


# --- HTTP ---------------------------------------------------------------------------------------------

LENGTHS = [b"-1", b"+2", b"0x2", b"2 2", b"2,2", b"2, 3", b"two", b"", b" ", b"2.0", b"1e1", b"\x0b2", b"2\x00",
           b"99999999999999999999", b"18446744073709551618", b"2;x", b"'2'", b"0b1", b"\xb2", b"2_0"]
CODINGS = [b"gzip", b"identity", b"chunked, gzip", b"gzip, chunked", b"chunked, chunked", b"xchunked", b"chunkedx",
           b"chunked;q=1", b"\x0bchunked", b"\"chunked\"", b"chunked\x00", b"chunked\x0c", b"deflate", b"",
           b"cow", b"chunked identity", b"ch unked", b",chunked,gzip", b"x, y"]
CHUNKS = [b"z\r\n", b"-2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}x\r\n0\r\n\r\n", b"0x2\r\n{}\r\n0\r\n\r\n",
          b"ffffffffffffffff1\r\n{}\r\n0\r\n\r\n", b" 2\r\n{}\r\n0\r\n\r\n", b"g\r\n"]


def framing(api):
    """One request whose end can be read in two ways, or in none."""
    token = api.token.encode()
    smuggled = SMUGGLED.replace(b"TOKEN", token)
    put = f"PUT {WRITE} HTTP/1.1".encode()
    kind = b"Content-Type: application/json"
    for length in LENGTHS:
        for name in (b"Content-Length", b"content-length", b"CONTENT-LENGTH"):
            yield head(api, put, kind, name + b": " + length) + b"{}" + smuggled
        yield head(api, put, kind, b"Content-Length: 2", b"Content-Length: " + length) + b"{}" + smuggled
        yield head(api, put, kind, b"Content-Length: " + length, b"Transfer-Encoding: chunked") + \
            b"0\r\n\r\n" + smuggled
    for coding in CODINGS:
        for name in (b"Transfer-Encoding", b"transfer-encoding"):
            yield head(api, put, kind, name + b": " + coding) + b"2\r\n{}\r\n0\r\n\r\n" + smuggled
        yield head(api, put, kind, b"Transfer-Encoding: chunked", b"Transfer-Encoding: " + coding) + \
            b"0\r\n\r\n" + smuggled
        yield head(api, put, kind, b"Transfer-Encoding: " + coding, b"Content-Length: 2") + \
            b"{}" + smuggled
    for first, second in itertools.product([b"0", b"2", b"3", b"57"], repeat=2):
        yield head(api, put, kind, b"Content-Length: " + first, b"Content-Length: " + second) + \
            b"{}" + smuggled
        yield head(api, put, kind, b"Content-Length: " + first + b", " + second) + b"{}" + smuggled
    for space in (b" ", b"\t", b"  ", b"\x0b", b" \t"):
        for name in (b"Content-Length", b"Transfer-Encoding", b"Host", b"Authorization", b"X-Any"):
            yield head(api, put, kind, b"Content-Length: 2", name + space + b": 2") + b"{}" + smuggled
    for body in CHUNKS:
        yield head(api, put, kind, b"Transfer-Encoding: chunked") + body
    for version in (b"1.0", b"1.1"):
        yield head(api, f"PUT {WRITE} HTTP/".encode() + version, kind, b"Content-Length: 2",
                   b"Transfer-Encoding: chunked") + b"0\r\n\r\n" + smuggled


LINES = [b"GET", b"GET /v1/roster", b"GET /v1/roster HTTP", b"GET /v1/roster HTTP/", b"GET /v1/roster HTTP/1",
         b"GET /v1/roster HTTP/1.1.1", b"GET /v1/roster HTTP/9.9", b"GET /v1/roster HTTP/2.0",
         b"GET /v1/roster FTP/1.1", b"GET /v1/roster http/1.1", b" GET /v1/roster HTTP/1.1",
         b"GET  HTTP/1.1", b"/v1/roster GET HTTP/1.1", b"G\x00T /v1/roster HTTP/1.1", b"PRI * HTTP/2.0",
         b"GET\t/v1/roster\tHTTP/1.1", b"GET /v1/roster HTTP/1.1 x", b"GET /v1/ros ter HTTP/1.1",
         b"CONNECT localhost:22 HTTP/1.1", b"TRACE /v1/roster HTTP/1.1", b"GET * HTTP/1.1",
         b"GET //v1/roster HTTP/1.1", b"GET v1/roster HTTP/1.1"]
BAD_PATHS = [b"%", b"%2", b"%zz", b"%00", b"%c0%af", b"%ff", b"%ed%a0%80", b"%f5%80%80%80", b"%c3%28", b"\xff",
             b"..", b".", b"%2e%2e", b"..%2f..", b"\\..\\", b"%5c", b"a%00b@example.com", b"%0d%0aX: y",
             b"%e2%80", b"%25%30%30%", b"@", b"a@b@c@", b"a@", b"@example.com/x", b"%20", b"a@%20"]
QUERIES = [b"?token=x", b"?a=1&a=2", b"?limit=0", b"?limit=-1", b"?limit=1&limit=1", b"?%00", b"?=x", b"?x",
           b"?cursor=%ff", b"?limit=1e3", b"?%", b"?q=%", b"?unknown=1", b"?limit=99999999999999999999"]


def lines_and_paths(api):
    for line in LINES:
        yield head(api, line)
        yield head(api, line, host=False)
    for part in BAD_PATHS:
        for template in (b"GET /v1/roster/items/%s HTTP/1.1", b"DELETE /v1/roster/items/%s HTTP/1.1",
                         b"GET /%s/v1/roster HTTP/1.1", b"GET /v1/%s HTTP/1.1",
                         b"GET /v1/roster/items/%s/x HTTP/1.1", b"GET /v1/problems/%s/%s HTTP/1.1"):
            yield head(api, template.replace(b"%s", part))
    for query in QUERIES:
        for path in (b"/v1/roster/items/a@example.com", b"/v1/session", b"/v1/roster/changes", b"/v1/events"):
            yield head(api, b"GET " + path + query + b" HTTP/1.1")
    for method in (b"FOO", b"get", b"PROPFIND", b"LINK", b"POSTX", b"*", b"GET/", b"DELETE\x7f", b"P\xc3\x9cT"):
        for path in (b"/v1/roster", b"/v1/session", b"/v1/events", b"/"):
            yield head(api, method + b" " + path + b" HTTP/1.1")


def hosts_and_tokens(api):
    for lines in ([], [b"Host: a", b"Host: b"], [b"Host: a", b"host: a"], [b"Host : a"], [b"Host\t: a"]):
        for path in (b"/v1/roster", b"/v1/events", b"/v1/session", b"/"):
            yield head(api, b"GET " + path + b" HTTP/1.1", *lines, host=False)
    for extra in ([b"Authorization: Bearer x"], [b"Authorization: "], [b"authorization: Basic eDp5"]):
        for path in (b"/v1/roster", b"/v1/events", b"/v1/session"):
            yield head(api, b"GET " + path + b" HTTP/1.1", *extra)
    for size in (33000, 70000, 200000):
        yield head(api, b"GET /v1/roster HTTP/1.1", b"X-Fill: " + b"x" * size)
        yield head(api, b"GET /v1/roster?q=" + b"x" * size + b" HTTP/1.1")
        yield head(api, b"GET /v1/roster HTTP/1.1", *[b"X-%d: y" % n for n in range(size // 40)])
        yield head(api, f"PUT {WRITE} HTTP/1.1".encode(), b"Content-Type: application/json",
                   b"Content-Length: %d" % size) + b"[" * size


def noise(rng, count):
    """No HTTP at all, of every kind: binary, TLS, lines, long words."""
    for number in range(count):
        size = rng.choice([1, 3, 10, 50, 400, 3000])
        data = bytes(rng.getrandbits(8) for _ in range(size))
        if number % 4 == 1:
            data = b"\x16\x03\x01" + data
        elif number % 4 == 2:
            data = bytes(rng.choice(b"GETPUTHOS/: \r\n%01.ab") for _ in range(size))
        yield data + b"\r\n\r\n"


def broken(rng, api, count):
    """A good request with a control character in the line or in the name of a header, or cut off."""
    good = head(api, b"GET /v1/roster HTTP/1.1", b"Accept: */*")
    line_end = good.index(b"\r\n")
    for number in range(count):
        if number % 2:
            yield good[:rng.randrange(1, len(good) - 4)]
        else:
            at = rng.randrange(1, line_end)
            yield good[:at] + bytes([rng.choice([0, 1, 8, 11, 12, 27, 127, 255])]) + good[at:]


def test_malformed_requests(fake_site, api):
    rng = random.Random(SEED)
    requests = [*framing(api), *lines_and_paths(api), *hosts_and_tokens(api), *noise(rng, 600),
                *broken(rng, api, 500)]
    assert len(requests) >= 1500, len(requests)
    before = fake_site.gateway.resident_kb()
    refused_all(api, requests)
    assert fake_site.server.sets() == []
    # The address sanitizer holds freed memory back, up to 256 MiB.
    assert fake_site.gateway.resident_kb() - before < 320 * 1024


# --- JIDs ---------------------------------------------------------------------------------------------

BAD_CHARACTERS = [*map(chr, range(0x00, 0x20)), " ", "\x7f", "\x80", "\x9f", "\u00a0", "\u1680", "\u2028", "\u2029",
                  "\u200e", "\u202a", "\u202e", "\ufdd0", "\ufffe", "\uffff", "\U0001fffe", "\U000e0001",
                  "\ue000", "\uf8ff", "\U000f0000", "\U0010fffd", "\u3000", "\ufff9", "\ufffd", "\u2ff0"]


def bad_jids():
    for place in ("%sjuliet@example.net", "jul%siet@example.net", "juliet%s@example.net",
                  "juliet@exa%smple.net", "juliet@%sexample.net"):
        for character in BAD_CHARACTERS:
            yield place % character
    for character in "\"&'/:<>":
        for place in ("%sjuliet@example.net", "jul%siet@example.net", "juliet%s@example.net"):
            yield place % character
    for jid in ("", "@", "@example.net", "juliet@", "a@b@c", "a@@b", "@@", "a@b/", "a@b/c/d", "/", "a/", "a@/r",
                "a@.b", "a@b..c", "a@.", "a@..", "a@-b.c", "a@b-.c", "a@b_c.d", "a@b c", "a@[::1", "a@::1]",
                "a@b:1", "a@b?c", "a@b#c", "a@b,c", "\u05d0a@example.net", "a\u05d0@example.net",
                "\u0627\u0031a@example.net", "a@" + "b" * 64 + ".net", "a@xn--.net", "\ud800@example.net"):
        yield jid
    for size in (1024, 1025, 2000, 10000, 60000):
        yield "a" * size + "@example.net"
        yield "a@" + "b." * size + "net"
        yield "\u00fc" * size + "@example.net"
        yield "a@example.net/" + "r" * size
    rng = random.Random(SEED)
    for _ in range(200):
        jid = "".join(chr(rng.choice([*range(0x20), 0x22, 0x26, 0x2f, 0x3c, 0x3e, 0x40, 0x61, 0x62, 0x2e]))
                      for _ in range(rng.randrange(1, 30)))
        # Must be bad for certain: it has a character that no part of a bare JID may have.
        yield jid + "\x01" if not set(jid) & {chr(c) for c in range(0x20)} else jid


def test_bad_jids(fake_site, api):
    """As a contact in a path, and as a name to sign in with: refused before anything is sent."""
    jids = list(bad_jids())
    assert len(jids) >= 500, len(jids)
    connects = len(fake_site.server.connects)
    for jid in jids:
        path = "/v1/roster/items/" + "".join(
            f"%{b:02X}" for b in jid.encode("utf-8", "surrogatepass"))
        try:
            # libmicrohttpd itself answers what does not fit in a head: 414, in its own words.
            response = api.call("PUT", path, json_body={"name": "x"}, check=len(path) < 8000)
            assert 400 <= response.status < 500, (jid[:80], response)
        except (BrokenPipeError, ConnectionResetError):
            # It closes at once, maybe before the body is out: a clean close is as good an answer.
            assert len(path) >= 8000, jid[:80]
            api.close()
        body = json.dumps({"jid": jid, "password": "x"})
        response = api.call("POST", "/v1/session", body.encode(), content_type="application/json",
                            token=None)
        assert 400 <= response.status < 500, (jid[:80], response)
    assert fake_site.server.sets() == []
    assert len(fake_site.server.connects) == connects, "somebody tried to sign in"


# --- JSON ---------------------------------------------------------------------------------------------

VALUES = ["1", "-1", "1.5", "true", "false", "[]", "{}", '["x"]', '{"a": 1}', "[null]", "1e999", '[[]]', "0",
          '"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '"a\\u0001"', '"a\\n"', '"a\\r"', '"a\\t"',
          '"\\uffff"', '"\\ufffe"', '"a\\u0008b"', '"\\u000b"']
SYNTAX = ["", " ", "{", "}", "[", "]", "{]", "nul", "nullx", "tru", "'a'", '{"name"}', '{"name":}', '{"name": "a",}',
          '{name: "a"}', '{"name": "a"} x', '{"name": "a"}{}', '{"name": "a" "groups": []}', '{"name": \'a\'}',
          '{"name": "a\nb"}', '{"name": "\x01"}', '{"name": "\\x41"}', '{"name": "\\u12"}', '{"name": "\\"}',
          '{"name": 01}', '{"name": +1}', '{"name": .5}', '{"name": 1.}', '{"name": 0x1}', '{"name": NaN}',
          '{"name": Infinity}', '// x\n{}', '/* */{}', '{"name": "a", "name": "b"}', '{"groups": [], "groups": []}',
          '\ufeff{"name": "a"}', '{"name": "a"', '{"name": "a', '[{"name": "a"}', '"x', '{"a": [1, 2,]}', '{,}',
          '{"": 1}', '{"name": "\\ud800x"}', '{"name": "\\udfff"}', '"name"', "null", "1", "true", "[]", '"{}"']


def bad_bodies():
    for member in ("name", "groups"):
        for value in VALUES:
            if member != "groups" or value not in ("[]", '["x"]'):
                yield '{"%s": %s}' % (member, value)
    for value in VALUES + ['""', "null"]:
        yield '{"groups": ["a", %s]}' % value
        yield '{"name": "a", "other": %s}' % value
        yield '{"name": "a", "subscription": %s}' % value
        yield '{"name": "a", "jid": %s}' % value
        yield '[%s]' % value
    yield from SYNTAX
    for depth in (17, 18, 50, 1000, 20000):
        yield "[" * depth + "]" * depth
        yield '{"a":' * depth + "1" + "}" * depth
        yield '{"name": ' + "[" * depth
    yield '{"groups": ["a", "a"]}'
    yield '{"groups": [%s]}' % ", ".join(f'"{n}"' for n in range(101))
    for size in (1024, 5000, 30000):
        yield '{"name": "%s"}' % ("x" * size)
        yield '{"groups": ["%s"]}' % ("\u00fc" * size)
    rng = random.Random(SEED)
    good = '{"name": "Nurse", "groups": ["Servants", "House"]}'
    for number in range(250):
        if number % 2:
            yield good[:rng.randrange(len(good))]
        else:
            at = rng.randrange(len(good))
            yield good[:at] + chr(rng.randrange(1, 9)) + good[at:]


BAD_BYTES = [b"\xff", b'{"name": "\xff"}', b'{"name": "\xc0\xaf"}', b'{"name": "\xed\xa0\x80"}',
             b'{"name": "\xf5\x80\x80\x80"}', b'{"name": "\xc3"}', b'{"name": "a\x00b"}', b"\x00", b"{}\x00",
             '{"name": "a"}'.encode("utf-16"), '{"name": "a"}'.encode("utf-32"), b"\xfe\xff"]


def test_bad_bodies(fake_site, api):
    bodies = [body.encode("utf-8", "surrogatepass") for body in bad_bodies()] + BAD_BYTES
    assert len(bodies) >= 500, len(bodies)
    for body in bodies:
        response = api.call("PUT", WRITE, body, content_type="application/json")
        assert response.status in (400, 413, 422), (body[:120], response)
        response = api.call("POST", "/v1/session", body, content_type="application/json", token=None)
        assert response.status in (400, 413, 422), (body[:120], response)
    assert fake_site.server.sets() == []


# --- tokens -------------------------------------------------------------------------------------------

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def bad_tokens(good):
    """Every single bit of the sealed part, of route and key name; pieces, joints, random ones."""
    marks = [i for i, c in enumerate(good) if c != "."]
    for at in marks[4:]:                         # behind "rg1."
        value = ALPHABET.find(good[at])
        for bit in range(6):
            if value >= 0:
                yield good[:at] + ALPHABET[value ^ 1 << bit] + good[at + 1:]
    for at in range(len(good)):
        yield good[:at] + good[at + 1:]
    parts = good.split(".")
    rng = random.Random(SEED)
    for _ in range(200):
        box = bytearray(rng.getrandbits(8) for _ in range(len(parts[3]) * 3 // 4))
        yield ".".join([*parts[:3], base64.urlsafe_b64encode(box).decode().rstrip("=")])
    yield from ("rg2." + good[4:], "rg1" + good[4:], good + good, ".".join(parts[:3]), ".".join(reversed(parts)))


def test_bad_tokens(fake_site, api):
    """Over the wire; every bit of a token is also flipped by the unit tests of core/token."""
    seen = 0
    for token in itertools.islice(bad_tokens(api.token), 100000):
        if token == api.token:
            continue
        response = api.call("GET", "/v1/session", token=token, check=False)
        assert response.status == 401, token
        seen += 1
    assert seen >= 2000, seen


# --- CSRF ---------------------------------------------------------------------------------------------

SITES = [None, "same-origin", "same-site", "cross-site", "none"]
ORIGINS = ["none", "own", "other", "null"]
KINDS = [("POST", "application/json"), ("POST", "text/plain"), ("DELETE", None)]


@pytest.fixture(scope="module")
def cookie(fake_site):
    response = fake_site.gateway.api().try_sign_in(fake_site.account(), cookie=True)
    return response.header("Set-Cookie").split(";")[0]


@pytest.mark.parametrize("site,origin,kind", itertools.product(SITES, ORIGINS, KINDS))
def test_cross_site_combinations(fake_site, cookie, site, origin, kind):
    """60: what Sec-Fetch-Site says counts; without it, Origin must be our own; without both, no."""
    api = fake_site.gateway.api()
    method, content = kind
    port = fake_site.gateway.port
    headers = {"Cookie": cookie, "Host": f"127.0.0.1:{port}", "Sec-Fetch-Site": site,
               "Origin": {"none": None, "own": f"https://127.0.0.1:{port}", "null": "null",
                          "other": "https://evil.example"}[origin]}
    allowed = site == "same-origin" or (site is None and origin == "own")
    if method == "POST":
        response = api.call("POST", "/v1/session/renew", b"{}", content_type=content, headers=headers,
                            token=None)
        wanted = (415 if content == "text/plain" else 200) if allowed else None
    else:
        response = api.call("DELETE", "/v1/roster/items/nobody@example.com", headers=headers, token=None)
        wanted = 404 if allowed else None
    if allowed:
        assert response.status == wanted, response
    else:
        assert response.status in (403, 415) and response.code in ("csrf", "unsupported-media-type")
        assert content == "text/plain" or response.code == "csrf", response


def test_there_are_sixty_of_them():
    assert len(SITES) * len(ORIGINS) * len(KINDS) == 60


# --- other users (T8), forged fields (T13) ------------------------------------------------------------

def test_no_route_reaches_another_users_data(fake_site, api):
    other_jid, other = fake_site.signed_in([{"jid": "secret-friend@example.net", "name": "Secret"}])
    quoted = other_jid.replace("@", "%40")
    for path in ("/v1/roster/items/" + quoted, f"/v1/{quoted}/roster", f"/v1/roster?jid={quoted}",
                 f"/v1/roster?user={quoted}", f"/v1/session?jid={quoted}", f"/v1/events?user={quoted}",
                 "/v1/roster/items/secret-friend@example.net", f"/v1/roster/changes?since=x&jid={quoted}"):
        for headers in ({}, {"X-User": other_jid}, {"From": other_jid}, {"X-Remote-User": other_jid}):
            response = api.get(path, headers=headers)
            assert response.status in (400, 404, 410), (path, response)
            assert b"secret-friend@example.net\", \"name" not in response.body
    assert "secret-friend@example.net" in other.items()


HOSTILE = ["a\u2028b\u2029c", "id: 1-1", "event: bye", "data: {}", "]]>", "</item>", "<img onerror=x>",
           "&lt;", "\"'", "\\r\\n", ": comment", "retry: 1", "\u202etxt", "%0d%0a", "{{7*7}}", "a" * 1000]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stay_data_everywhere(fake_site, name):
    jid, client = fake_site.signed_in()
    with fake_site.gateway.stream(client) as stream:
        stream.wait_sync()
        assert client.put_item("nurse@example.net", name=name, groups=[name]).status == 201
        event = stream.wait_item("nurse@example.net")
        assert event.json["item"]["name"] == name and event.json["item"]["groups"] == [name]
        assert client.items()["nurse@example.net"]["name"] == name
        assert "bye" not in stream.names() and len(fake_site.server.parse_errors) == 0
