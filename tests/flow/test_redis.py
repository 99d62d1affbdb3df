"""Redis over memory, end to end: what a restart costs, what no trouble of Redis may cost (DESIGN 5)."""
import json

import pytest

from fakes.redis_server import RedisServer, SickRedis
from fakes.roster_model import Item
from fakes.support import wait_until

KEY = "rg:{juliet@example.com}:"


@pytest.fixture
def redis(tmp_path):
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder, password="s3cret-of-redis")
    yield server
    server.close()


@pytest.fixture
def juliet(fake):
    fake.add("juliet", items=[Item("romeo@example.net", "Romeo"), Item("nurse@example.com", "Nurse")])
    return "juliet@example.com"


@pytest.fixture
def start(make_gateway, tmp_path, redis):
    """A gateway on that Redis; all of one test have the same keys."""
    def make(server, **how):
        gateway = make_gateway(server, cache={"url": how.pop("url", redis.url)},
                               session={"keys_file": str(tmp_path / "keys")}, **how)
        gateway.secrets.append(redis.password)
        return gateway
    return make


def health(gateway):
    return json.loads(gateway.operations("/readyz").body)["store"]


def kept(redis, version):
    return lambda: redis.command("HGET", KEY + "meta", "at") == version


def test_restart_is_confirmed_by_ver_alone(fake, start, juliet, redis):
    """Sign-in, version and roster survive; no full roster comes over the wire."""
    gateway = start(fake)
    api = gateway.sign_in(juliet)
    before = api.get("/v1/roster")
    wait_until(kept(redis, before.version), 5, "the roster in Redis")
    gateway.stop()
    gets, server_ver = len(fake.gets("juliet")), fake.ver_of(fake.accounts["juliet"])
    gateway.start()
    after = api.get("/v1/roster")
    assert after.status == 200 and after.version == before.version
    assert after.json()["items"] == before.json()["items"]
    asked = fake.gets("juliet")[gets:]
    assert asked and all(get.ver == server_ver for get in asked), [get.ver for get in asked]
    assert api.get("/v1/roster", headers={"If-None-Match": before.header("ETag")}).status == 304


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_streams_resume_with_exactly_what_was_missed(fake, start, juliet, redis, how):
    gateway = start(fake)
    api = gateway.sign_in(juliet)
    with gateway.stream(api) as stream:
        stream.wait_sync()
        fake.change("juliet", Item("seen@example.com"))
        stream.wait_item("seen@example.com")
        last = stream.last_id()
    wait_until(kept(redis, last), 5, "the change in Redis")
    getattr(gateway, how)()
    fake.change("juliet", Item("missed@example.com"))
    gateway.start()
    with gateway.stream(api, last_event_id=last) as again:
        assert again.wait_sync().json["resumed"] is True
        # A killed instance owns the account until its heartbeat has run out.
        again.wait_item("missed@example.com", timeout=10)
        changes = [event.json["item"]["jid"] if event.name == "roster.set" else event.name
                   for event in again.events.all() if event.name.startswith("roster")]
        assert changes == ["missed@example.com"]


def test_sign_outs_hold_across_a_restart(fake, start, juliet):
    gateway = start(fake)
    api, other = gateway.sign_in(juliet), gateway.sign_in(juliet)
    assert api.delete("/v1/session").status == 204
    gateway.stop()
    gateway.start()
    assert api.get("/v1/roster").status == 401
    assert other.get("/v1/roster").status == 200


def test_a_sign_out_is_known_on_the_other_instance(fake, start, juliet):
    one, two = start(fake), start(fake)
    api = one.sign_in(juliet)
    there = two.api(api.token)
    with two.stream(there) as stream:
        stream.wait_sync()
        assert api.delete("/v1/session").status == 204
        assert stream.wait_for("bye", timeout=2).json["reason"] == "signed-out"
    assert there.get("/v1/roster").status == 401


def test_xmpp_away_reads_go_on(fake, start, juliet, redis):
    gateway = start(fake)
    api = gateway.sign_in(juliet)
    before = api.get("/v1/roster")
    wait_until(kept(redis, before.version), 5, "the roster in Redis")
    gateway.stop()
    fake.go_away()
    gateway.start()
    stale = api.get("/v1/roster")
    assert stale.status == 200 and stale.version == before.version
    assert stale.header("Cache-Status") is not None
    assert api.put_item("new@example.com", "New").status == 503


def test_redis_away_and_back(fake, start, juliet, redis):
    gateway = start(fake)
    api = gateway.sign_in(juliet)
    redis.kill()
    wait_until(lambda: health(gateway)["degraded"], 10, "degraded")
    assert api.put_item("new@example.com", "New").status == 201
    assert api.get("/v1/roster").status == 200
    assert gateway.operations("/readyz").status == 200
    assert gateway.sign_in(juliet).get("/v1/roster").status == 200
    redis.start()
    wait_until(kept(redis, api.get("/v1/roster").version), 15, "written back")
    wait_until(lambda: not health(gateway)["degraded"], 10, "well again")


def test_flushed_with_clients_connected(fake, start, juliet, redis):
    gateway = start(fake)
    api = gateway.sign_in(juliet)
    with gateway.stream(api) as stream:
        stream.wait_sync()
        for n in range(10):
            redis.command("FLUSHALL")
            redis.command("SCRIPT", "FLUSH")
            assert api.put_item(f"new{n}@example.com", "New").status == 201
            stream.wait_item(f"new{n}@example.com")
        last = stream.last_id()
    wait_until(kept(redis, last), 10, "written back under the same version")


SICKNESSES = {
    "half a reply": lambda n: b"*6\r\n$0\r\n\r\n$5\r\nab",
    "hangs up": lambda n: None,
    "nonsense": lambda n: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "says nothing": lambda n: b"",
    "wrong type": lambda n: b":42\r\n",
    "short array": lambda n: b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
    "array of nothing": lambda n: b"*6\r\n$-1\r\n$-1\r\n$-1\r\n*-1\r\n*-1\r\n*-1\r\n",
    "errors": lambda n: b"-ERR no\r\n",
    "two answers": lambda n: b":1\r\n:2\r\n",
    "a huge length": lambda n: b"$536870912\r\nx",
}


@pytest.mark.parametrize("sickness", SICKNESSES)
def test_a_sick_redis_fails_no_request(fake, start, juliet, sickness):
    sick = SickRedis(SICKNESSES[sickness])
    try:
        gateway = start(fake, url=sick.url)
        api = gateway.sign_in(juliet)
        assert api.get("/v1/roster").status == 200
        assert api.put_item("new@example.com", "New").status == 201
        assert api.delete("/v1/session").status in (202, 204)
        assert sick.asked > 0
        assert gateway.operations("/readyz").status == 200
    finally:
        sick.close()


def test_idle_costs_one_command_a_second(fake, start, juliet, redis):
    gateway = start(fake)
    api = gateway.sign_in(juliet)
    wait_until(kept(redis, api.get("/v1/roster").version), 5, "the roster in Redis")
    before = redis.info("total_commands_processed")
    beats = 3
    started = redis.command("TIME")
    wait_until(lambda: int(redis.command("TIME")[0]) >= int(started[0]) + beats, 10, "three seconds",
               every=1)
    # This test's own questions: three commands each time.
    assert redis.info("total_commands_processed") - before < 10 * beats
