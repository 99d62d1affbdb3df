"""Numbers of issue 5, with the release build: 1,000 accounts with streams over a restart, what an idle instance asks
of Redis, and a thousand faults of a Redis in use."""
import random
import threading
import time

import pytest

from fakes.roster_model import Item
from fakes.support import deadline, wait_until
from fakes.xmpp_server import FakeServer
from test_scale import LIMITS, ManyStreams, sign_in_all

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
ACCOUNTS = 1000


def resumed(streams):
    return sum(1 for tail in list(streams.tails.values()) if b'"resumed":true' in tail)


def test_a_thousand_accounts_over_a_restart(make_gateway, release_binary, redis, tmp_path):
    """All streams resume with exactly what was missed; no roster that has not changed is sent again. Before that:
    what a thousand owned accounts cost while nothing happens."""
    fake = FakeServer(None)
    fake.mechanisms = ["PLAIN"]
    gateway = make_gateway(fake, binary=release_binary, xmpp={"plaintext_loopback": True}, limits=LIMITS,
                           log={"level": "warn"}, cache={"url": redis.url},
                           session={"keys_file": str(tmp_path / "keys")})
    apis = sign_in_all(gateway, fake, ACCOUNTS)
    versions = [api.get("/v1/roster").version for api in apis]
    streams = ManyStreams()
    streams.thread.start()
    for api in apis:
        streams.add(api)
        api.close()
    wait_until(lambda: streams.synced() == ACCOUNTS, 60, "sync on all", 0.1)

    before, began = redis.info("total_commands_processed"), time.monotonic()
    beats = int(redis.command("TIME")[0]) + 5
    wait_until(lambda: int(redis.command("TIME")[0]) >= beats, 20, "five seconds", every=1)
    rate = (redis.info("total_commands_processed") - before) / (time.monotonic() - began)
    print(f"{ACCOUNTS} owned accounts, idle: {rate:.1f} Redis commands a second, the test's own among them")
    assert rate < 20

    gateway.stop()
    streams.close()
    for number in range(100):
        fake.change(f"user{number}", Item("missed@example.com", "Missed"))
    gateway.start()
    began = time.monotonic()
    streams = ManyStreams()
    streams.thread.start()
    socks = [streams.add(api, f"?since={version}") for api, version in zip(apis, versions)]
    wait_until(lambda: resumed(streams) == ACCOUNTS, 60, lambda: f"{resumed(streams)} resumed", 0.05)
    print(f"{ACCOUNTS} streams resumed {time.monotonic() - began:.1f} s after the restart")
    assert time.monotonic() - began < deadline(15)
    wait_until(lambda: all(b"missed@example.com" in streams.tails[sock] for sock in socks[:100]), 60,
               "what was missed", 0.05)
    gateway.wait_metric("rostergate_xmpp_sessions", lambda live: live == ACCOUNTS, 'state="live"', 60)
    for sock in socks[:100]:
        assert streams.tails[sock].count(b"event: roster.set") == 1
    for sock in socks:
        assert b"event: roster\n" not in streams.tails[sock]
    for sock in socks[100:]:
        assert b"event: roster" not in streams.tails[sock]
    full = gateway.metric("rostergate_roster_fetch_total", 'result="full"')
    print(f"full rosters fetched: {full:.0f}, for 100 accounts that changed")
    assert full <= 100
    streams.close()
    gateway.stop()
    fake.close()


def key(user, part):
    return f"rg:{{{user}@example.com}}:{part}"


FAULTS = {
    "flushed": lambda redis, user: redis.command("FLUSHALL"),
    "scripts flushed": lambda redis, user: redis.command("SCRIPT", "FLUSH"),
    "links cut": lambda redis, user: redis.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
    "news cut": lambda redis, user: redis.command("CLIENT", "KILL", "TYPE", "pubsub"),
    "slow": lambda redis, user: redis.command("CLIENT", "PAUSE", "30"),
    "full": lambda redis, user: redis.command("CONFIG", "SET", "maxmemory", "1"),
    "room again": lambda redis, user: redis.command("CONFIG", "SET", "maxmemory", "0"),
    "roster lost": lambda redis, user: redis.command("DEL", key(user, "meta")),
    "items lost": lambda redis, user: redis.command("DEL", key(user, "items")),
    "journal lost": lambda redis, user: redis.command("DEL", key(user, "journal")),
    "heartbeats lost": lambda redis, user: [redis.command("DEL", name) for name in redis.command("KEYS", "rg:{alive}:*")],
    "another owner": lambda redis, user: redis.command("HSET", key(user, "meta"), "owner", "f" * 32),
    "poisoned": lambda redis, user: redis.command("HSET", key(user, "items"), "romeo@example.net", "x"),
    "another state": lambda redis, user: redis.command("HSET", key(user, "meta"), "state", "\x01x"),
}


def strike(redis, chance, user):
    """One fault. False: Redis did not let it in (it is full, or not of that type)."""
    try:
        FAULTS[chance.choice(sorted(FAULTS))](redis, user)
        return True
    except OSError:
        return False


def test_a_thousand_faults_of_redis(make_gateway, release_binary, redis, tmp_path, fake):
    """While clients read and write, real faults of a real Redis; no request fails, and all is there."""
    gateway = make_gateway(fake, binary=release_binary, cache={"url": redis.url}, log={"level": "error"},
                           limits={"writes_user": 100000}, session={"keys_file": str(tmp_path / "keys")})
    apis = []
    for number in range(4):
        fake.add(f"user{number}", items=[Item("romeo@example.net", "Romeo")])
        apis.append(gateway.sign_in(f"user{number}@example.com"))
    failed, done, over = [], [0] * len(apis), threading.Event()

    def work(number):
        while not over.is_set():
            n = done[number]
            for answer in (apis[number].put_item(f"friend{n % 9}@example.com", f"Friend {n}"),
                           apis[number].get("/v1/roster")):
                if answer.status not in (200, 201):
                    failed.append(answer)
            done[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(apis))]
    for thread in threads:
        thread.start()
    seed = random.SystemRandom().randrange(10**6)
    chance, faults = random.Random(seed), 0
    while faults < 1000:
        at = sum(done)
        faults += strike(redis, chance, f"user{chance.randrange(len(apis))}")
        wait_until(lambda a=at: sum(done) > a, 30, f"requests go on (seed {seed})", 0.001)
    over.set()
    for thread in threads:
        thread.join()
    print(f"{faults} faults (seed {seed}), {sum(done) * 2} requests, {len(failed)} failed")
    assert failed == []
    for number, api in enumerate(apis):
        assert {jid: item["name"] for jid, item in api.items().items()} == \
            {item.jid: item.name for item in fake.accounts[f"user{number}"].items.values()}
