"""Guesses, half-open connections and readers that never read: the service goes on, memory stays bounded, the
process is the same one after it."""
import resource
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fakes.support import deadline, wait_until

HALF_OPEN, STALLED, GUESSES = 10_000, 1_000, 300


@pytest.fixture(autouse=True)
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_three_hundred_guesses(fake, make_gateway):
    """From many addresses at one account, then from one address at many accounts: what reaches the server
    is what the limits say. Ten thousand with a moved clock: the unit tests of core/signin."""
    gateway = make_gateway(fake)
    fake.add("juliet")

    def guess(number):
        api = gateway.api(headers={"X-Forwarded-For": f"10.{number % 250}.{number // 250}.7"})
        response = api.try_sign_in("juliet@example.com", f"wrong-{number}")
        api.close()
        return response

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(guess, range(GUESSES)))
    refused = [a for a in answers if a.status == 401]
    throttled = [a for a in answers if a.status == 429]
    assert len(refused) + len(throttled) == GUESSES, {a.status for a in answers}
    assert len(refused) == 10 == len({r[0] for r in enumerate(fake.refusals.all())})
    assert all(1 <= int(a.header("Retry-After")) <= 300 for a in throttled)
    # The owner is locked out of new sign-ins for as long; nobody who is in is thrown out.
    fake.add("romeo")
    romeo = gateway.sign_in("romeo@example.com")
    for number in range(100):
        fake.add(f"user{number}")

    def spray(number):
        api = gateway.api(headers={"X-Forwarded-For": "192.0.2.%d" % (number % 200)})
        response = api.try_sign_in(f"user{number % 100}@example.com", "wrong")
        api.close()
        return response.status

    before = len(fake.refusals)
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(spray, range(200)))
    assert statuses.count(401) == 100 == len(fake.refusals) - before, "one /24 is one address"
    assert set(statuses) == {401, 429}
    assert romeo.get("/v1/roster").status == 200


@pytest.mark.slow
def test_ten_thousand_half_open_connections(fake, make_gateway, release_binary):
    """No head is complete, none is closed. The newcomer beyond the limit is refused, the others are served;
    after ten seconds all are gone."""
    gateway = make_gateway(fake, binary=release_binary)
    fake.add("juliet")
    api = gateway.sign_in("juliet@example.com")
    pid, before = gateway.child.pid, gateway.resident_kb()
    held = []
    try:
        for number in range(HALF_OPEN):
            sock = socket.create_connection(gateway.address, timeout=deadline(10))
            sock.sendall(b"GET /v1/roster HTTP/1.1\r\nHost: x\r\nX-Slow: "[:5 + number % 40])
            held.append(sock)
            if number % 1000 == 999:
                start = time.monotonic()
                assert api.get("/v1/roster").status == 200
                assert time.monotonic() - start < deadline(2)
        assert gateway.resident_kb() - before < 600 * 1024
        assert gateway.sign_in("juliet@example.com").get("/v1/roster").status == 200
        wait_until(lambda: gateway.descriptors() < 500, 40, lambda: f"{gateway.descriptors()} open")
    finally:
        for sock in held:
            sock.close()
    assert api.get("/v1/roster").status == 200 and gateway.child.pid == pid


@pytest.mark.slow
def test_a_thousand_readers_that_never_read(fake, make_gateway, release_binary):
    """Each takes a stream and no byte of it, while the roster changes all the time."""
    gateway = make_gateway(fake, binary=release_binary, xmpp={"plaintext_loopback": False},
                           limits={"streams_user": 2000, "writes_user": 10000})
    fake.add("juliet")
    api = gateway.sign_in("juliet@example.com")
    head = (f"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {api.token}\r\n"
            "\r\n").encode()
    pid, before = gateway.child.pid, gateway.resident_kb()
    held = []
    try:
        for _ in range(STALLED):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.settimeout(deadline(10))
            sock.connect(gateway.address)
            sock.sendall(head)
            held.append(sock)
        wait_until(lambda: gateway.metric("rostergate_streams_attached") >= STALLED, 30,
                   lambda: f"{gateway.metric('rostergate_streams_attached')} streams")
        with gateway.stream(api) as reader:
            reader.wait_sync()
            for number in range(300):
                response = api.put_item(f"contact{number % 20}@example.net", name=f"{number} " + "x" * 900)
                assert response.status in (200, 201), response
            reader.wait_item("contact19@example.net", name="299 " + "x" * 900)
        # A queue each of at most stream_queue_bytes, of shared frames: far less than 1,000 x 256 KiB.
        assert gateway.resident_kb() - before < 200 * 1024, gateway.resident_kb() - before
        wait_until(lambda: gateway.metric("rostergate_streams_attached") < 10, 60,
                   lambda: f"{gateway.metric('rostergate_streams_attached')} streams left")
    finally:
        for sock in held:
            sock.close()
    assert api.get("/v1/roster").status == 200 and gateway.child.pid == pid


@pytest.mark.slow
@pytest.mark.parametrize("direct", [False, True], ids=["starttls", "direct"])
def test_a_tls_session_takes_eighty_kilobytes(fake, make_gateway, release_binary, record_property, direct):
    """In the worker, one CA trusted, a thousand of them."""
    fake.mechanisms = ["PLAIN"]                  # SCRAM's 10,000 rounds are time, not memory
    if direct:
        fake.hook("connect", lambda session, _: session.start_tls(fake.certificate.server_context()))
    gateway = make_gateway(fake.address + ("+tls" if direct else ""), binary=release_binary)
    for number in range(1010):
        fake.add(f"user{number}")

    def sign_in(number):
        gateway.api().sign_in(f"user{number}@example.com").close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(sign_in, range(10)))       # what is made once
        before = worker_kb(gateway)
        list(pool.map(sign_in, range(10, 1010)))
    assert gateway.metric("rostergate_xmpp_sessions") >= 1010
    each = (worker_kb(gateway) - before) / 1000
    record_property("kilobytes_each", each)
    print(f"{each:.1f} kB per TLS session")
    assert each <= 80, each


def worker_kb(gateway):
    [pid] = gateway.worker_pids()
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
