"""Worker processes that die, hang or are fed what kills libstrophe: only their sessions reconnect; HTTP,
streams and the users of other workers go on (DESIGN 2; issue 3)."""
import os
import signal
import threading
import time

import pytest

from fakes import misbehaviour
from fakes.roster_model import Item
from fakes.support import deadline, wait_until
from fakes.xmpp_server import FakeServer


@pytest.fixture
def juliet_account(fake):
    fake.add("juliet", items=[Item("romeo@example.net", "Romeo")])
    return "juliet@example.com"


def live(api):
    return api.get("/v1/session").json()["state"] == "live"


def test_a_killed_worker_is_replaced_and_its_sessions_are_back(fake, gateway, juliet_account):
    api = gateway.sign_in(juliet_account)
    with gateway.stream(api) as stream:
        sync = stream.wait_sync()
        [worker] = gateway.worker_pids()
        os.kill(worker, signal.SIGKILL)
        # Reads go on at once, from the cache.
        assert api.get("/v1/roster").status == 200
        wait_until(lambda: len(fake.signed_in) == 2, 20, "the session comes back")
        fake.change("juliet", Item("after@example.com", "After"))
        event = stream.wait_item("after@example.com", timeout=20)
        assert int(event.id.rpartition("-")[2]) == int(sync.id.rpartition("-")[2]) + 1
        assert gateway.worker_pids() not in ([], [worker])
        assert "bye" not in stream.names() and "roster" not in stream.names()[1:]
        wait_until(lambda: live(api), 20, "live")
        assert api.put_item("nurse@example.com").status == 201


def test_a_write_in_flight_when_the_worker_dies(fake, gateway, juliet_account):
    """504 outcome-unknown, and the truth afterwards."""
    api = gateway.sign_in(juliet_account)
    held = threading.Event()

    def hold(session, element):
        fake.accounts["juliet"].set_by_client("nurse@example.com", "Nurse", [])
        held.set()
        return True
    fake.hook("roster_set", hold, times=1)
    answers = []
    writer = threading.Thread(target=lambda: answers.append(api.put_item("nurse@example.com", "Nurse")))
    writer.start()
    assert held.wait(deadline(10))
    os.kill(gateway.worker_pids()[0], signal.SIGKILL)
    writer.join(deadline(20))
    assert (answers[0].status, answers[0].code) == (504, "outcome-unknown")
    reader = api.with_token(api.token)
    wait_until(lambda: "nurse@example.com" in reader.items(), 20, "the roster is read again")


def test_a_sign_in_under_way_when_the_worker_dies(fake, gateway, juliet_account):
    reached = threading.Event()
    fake.hook("bind", lambda *_: reached.set() or True, times=1)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(gateway.api().try_sign_in(juliet_account)))
    thread.start()
    assert reached.wait(deadline(10))
    os.kill(gateway.worker_pids()[0], signal.SIGKILL)
    thread.join(deadline(20))
    assert answers[0].status in (201, 502, 503, 504), answers
    assert gateway.sign_in(juliet_account).get("/v1/roster").status == 200


@pytest.mark.slow
def test_a_hung_worker_is_found_and_replaced(fake, gateway, juliet_account):
    """SIGSTOP: no heartbeat for 10 s, then it is killed."""
    api = gateway.sign_in(juliet_account)
    [worker] = gateway.worker_pids()
    os.kill(worker, signal.SIGSTOP)
    try:
        assert api.get("/v1/roster").status == 200
        wait_until(lambda: worker not in gateway.worker_pids(), 40, "the hung worker is ended", 0.2)
    finally:
        try:
            os.kill(worker, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_until(lambda: live(api), 30, "live again", 0.1)


def test_workers_of_other_domains_notice_nothing(fake, make_gateway, authority, juliet_account):
    other = FakeServer(authority.issue("example.org"), domain="example.org")
    other.add("romeo")
    gateway = make_gateway({"example.com": fake.address, "example.org": other.address})
    juliet, romeo = gateway.sign_in(juliet_account), gateway.sign_in("romeo@example.org")
    with gateway.stream(romeo) as stream:
        stream.wait_sync()
        before = set(gateway.worker_pids())
        assert len(before) == 2
        # The worker of example.com is the one whose death cuts juliet's session.
        session = fake.wait_session("juliet")
        for pid in before:
            if session.closed:
                break
            if _owns(pid, fake.port):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: session.closed, 10, "juliet's session is cut")
        assert romeo.put_item("nurse@example.com").status == 201
        stream.wait_item("nurse@example.com")
        assert len(other.signed_in) == 1 and "session" not in stream.names()
        wait_until(lambda: live(juliet), 20, "juliet is back")
    other.close()


def _owns(pid, port):
    """Has the process a TCP connection to this local port?"""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    with open(f"/proc/{pid}/net/tcp", encoding="ascii") as table:
        for line in table.readlines()[1:]:
            fields = line.split()
            if fields[2].endswith(f":{port:04X}") and fields[9] in inodes:
                return True
    return False


@pytest.mark.parametrize("what", ["garbage", "half", "doctype", "entity", "bad utf-8", "other namespace",
                                  "close tag", "text", "nul"])
def test_broken_xml_costs_one_session_only(fake, make_gateway, juliet_account, what):
    """A parse error leaves libstrophe a zombie (facts rule 20): noticed and replaced."""
    gateway = make_gateway(fake, xmpp={"iq_timeout": "3s"})
    data = {"garbage": misbehaviour.GARBAGE, "half": misbehaviour.HALF_STANZA,
            "doctype": b"<!DOCTYPE x [<!ENTITY a 'b'>]><message/>", "entity": b"<message>&nothing;</message>",
            "bad utf-8": b"<message><body>\xff\xfe</body></message>", "other namespace": b"<a:b/>",
            "close tag": b"</stream:stream>", "text": b"no stanza at all", "nul": b"<message>\0</message>"}
    fake.add("romeo")
    juliet, romeo = gateway.sign_in(juliet_account), gateway.sign_in("romeo@example.com")
    [session] = fake.sessions_of("juliet")
    session.send(data[what])
    if what in ("half", "text"):
        # Not an error yet; the next request finds a stream that answers nothing it understands.
        session.hold = True
        gateway.api(juliet.token).put_item("nurse@example.com")
        session.cut()
    wait_until(lambda: len(fake.signed_in) >= 3, 30, "juliet signs in again")
    wait_until(lambda: live(juliet), 20, "live")
    assert juliet.items().keys() >= {"romeo@example.net"}
    assert romeo.put_item("nurse@example.com").status == 201
    assert len([s for s in fake.signed_in.all() if s.user == "romeo"]) == 1


def test_a_deeply_nested_stanza_is_survived(fake, gateway, juliet_account):
    """libstrophe recurses (facts rule 22): the 64 MB stack, or the death of one worker, and back."""
    gateway.reports_allowed = True
    juliet = gateway.sign_in(juliet_account)
    [session] = fake.sessions_of("juliet")
    session.send(misbehaviour.nested(300000))
    assert juliet.get("/v1/roster").status == 200
    fake.change("juliet", Item("after@example.com"))
    wait_until(lambda: "after@example.com" in juliet.items(), 40, "the roster goes on", 0.1)


def test_an_endless_stanza_is_cut(fake, gateway, juliet_account):
    """Memory per session is capped (facts rule 21)."""
    juliet = gateway.sign_in(juliet_account)
    [session] = fake.sessions_of("juliet")
    taken = misbehaviour.endless(session, 60)
    if taken:
        wait_until(lambda: session.closed, 60, "the endless stanza is cut", 0.1)
        wait_until(lambda: len(fake.signed_in) >= 2, 40, "the next session")
    assert juliet.get("/v1/roster").status == 200
    wait_until(lambda: live(juliet), 40, "live again", 0.1)
    assert juliet.put_item("nurse@example.com").status == 201


@pytest.mark.slow
def test_three_stalled_handshakes_close_the_door_but_for_a_probe(fake, make_gateway, juliet_account):
    """After three in a row the domain's sign-ins are refused at once, but for one probe at a time; a
    probe that comes through opens the door."""
    gateway = make_gateway(fake)
    fake.hook("starttls", misbehaviour.stall_tls)
    for _ in range(3):
        assert gateway.api().try_sign_in(juliet_account).status in (502, 504)
    gateway.wait_metric("rostergate_xmpp_handshakes_hung_total", lambda n: n == 3)
    before = len(fake.connects)

    def be_the_probe():
        while len(fake.connects) == before:      # Refused until the pause after a failure is over.
            gateway.api().try_sign_in(juliet_account)
            time.sleep(0.1)
    probe = threading.Thread(target=be_the_probe)
    probe.start()
    wait_until(lambda: len(fake.connects) > before, 20, "the probe")
    start = time.monotonic()
    response = gateway.api().try_sign_in(juliet_account)
    assert response.status in (502, 503), response
    assert time.monotonic() - start < deadline(3), "not refused at once"
    assert len(fake.connects) <= before + 1, "more than one probe"
    probe.join(deadline(30))
    fake.clear_hooks()
    wait_until(lambda: gateway.api().try_sign_in(juliet_account).status == 201, 60,
               "the door opens again", 0.3)


def test_several_workers_share_the_users(fake, make_gateway):
    gateway = make_gateway(fake, xmpp={"workers": 3})
    apis = []
    for n in range(12):
        fake.add(f"user{n}", items=[Item("romeo@example.net")])
        apis.append(gateway.sign_in(f"user{n}@example.com"))
    assert len(gateway.worker_pids()) == 3
    for pid in gateway.worker_pids():
        os.kill(pid, signal.SIGKILL)
    for api in apis:
        wait_until(lambda api=api: live(api), 30, "live again", 0.05)
        assert len(api.items()) == 1
