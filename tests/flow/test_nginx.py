"""Behind real nginx with deploy/nginx.conf: nothing is held back, nothing is cut, addresses are right."""
import time

import pytest

from fakes.http_client import Api
from fakes.roster_model import Item
from fakes.sse import SseClient
from fakes.support import deadline, wait_until


@pytest.fixture(params=["tcp", "unix"])
def behind(request, fake, make_gateway, make_nginx, socket_folder):
    """(gateway, client of nginx) with a short read time-out in nginx, over TCP and over a Unix socket."""
    how = {"events": {"heartbeat": "2s"}}
    if request.param == "unix":
        how["server"] = {"listen": f"unix:{socket_folder}/rg.sock"}
    gateway = make_gateway(fake, **how)
    nginx = make_nginx(gateway, read_timeout="6s")
    fake.add("juliet", items=[Item("romeo@example.net", "Romeo", ["Friends"], "both")])
    return gateway, Api(nginx.address)


def test_the_walking_skeleton_through_nginx(fake, behind):
    _, api = behind
    juliet = api.sign_in("juliet@example.com")
    response = juliet.get("/v1/roster")
    assert response.status == 200 and len(response.json()["items"]) == 1
    assert juliet.get("/v1/roster", headers={"If-None-Match": response.header("ETag")}).status == 304
    assert juliet.put_item("nurse@example.com", "Nurse", ["Servants"]).status == 201
    assert juliet.put("/v1/roster/items/nurse%40example.com", {"name": "N"}).status == 200
    assert juliet.delete_item("nurse@example.com").status == 204
    assert juliet.delete("/v1/session").status == 204


def test_a_push_crosses_at_once(fake, behind):
    _, api = behind
    juliet = api.sign_in("juliet@example.com")
    with SseClient(juliet) as stream:
        stream.wait_sync()
        delays = []
        for n in range(10):
            start = time.monotonic()
            fake.change("juliet", Item(f"friend{n}@example.com", f"Friend {n}"))
            delays.append(stream.wait_item(f"friend{n}@example.com").at - start)
        assert sorted(delays)[5] < deadline(0.5), delays
        assert max(delays) < deadline(1.5), "a push waited for the next heartbeat"


def test_an_idle_stream_outlives_the_read_timeout(fake, behind):
    _, api = behind
    juliet = api.sign_in("juliet@example.com")
    with SseClient(juliet) as stream:
        stream.wait_sync()
        start = time.monotonic()
        # Five heartbeats are longer than the 6 s after which nginx gives up.
        since = len(stream.comments)
        wait_until(lambda: len(stream.comments) >= since + 5 or stream.ended.is_set(), 40,
                   "five heartbeats", every=0.1)
        assert not stream.ended.is_set(), "cut"
        assert time.monotonic() - start > 6.4
        fake.change("juliet", Item("late@example.com"))
        stream.wait_item("late@example.com")


def test_the_end_of_a_stream_crosses_too(fake, behind):
    gateway, api = behind
    juliet = api.sign_in("juliet@example.com")
    with SseClient(juliet) as stream:
        stream.wait_sync()
        gateway.stop()
        assert stream.wait_for("bye").json["reason"] == "drain"
        stream.wait_end()
        assert stream.ended_properly


def test_the_address_of_the_client_counts_and_cannot_be_claimed(fake, make_gateway, make_nginx):
    """nginx sets X-Forwarded-For; what the client writes there goes no further. Failures of one address
    end in 429, whatever address it pretends to have."""
    gateway = make_gateway(fake, limits={"signin_failures_address": 3})
    api = Api(make_nginx(gateway).address)
    statuses = [api.post("/v1/session", {"jid": f"nobody{n}@example.com", "password": "x"},
                         headers={"X-Forwarded-For": f"198.51.100.{n}"}).status for n in range(4)]
    assert statuses == [401, 401, 401, 429]
