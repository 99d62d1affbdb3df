"""Two instances on one Redis: the same versions in the same order on both, a write through either visible on
both when answered, and nothing lost when one of them dies (DESIGN 5)."""
import threading

import pytest

from fakes.http_client import Api
from fakes.roster_model import Item
from fakes.sse import SseClient
from fakes.support import wait_until

JULIET = "juliet@example.com"


@pytest.fixture
def start(make_gateway, tmp_path, redis):
    """An instance; all of one test share Redis and keys."""
    def make(server, **how):
        how.setdefault("limits", {})["writes_user"] = 1000000
        return make_gateway(server, cache={"url": redis.url}, session={"keys_file": str(tmp_path / "keys")},
                            **how)
    return make


@pytest.fixture
def both(fake, start):
    """(one, two, juliet at one, juliet at two), one sign-in; the first is the owner."""
    fake.add("juliet", items=[Item("romeo@example.net", "Romeo"), Item("nurse@example.com", "Nurse")])
    one, two = start(fake), start(fake)
    here = one.sign_in(JULIET)
    there = two.api(here.token)
    assert there.get("/v1/roster").version == here.get("/v1/roster").version
    return one, two, here, there


def changes(stream):
    return [(event.id, event.name, event.data) for event in stream.events.all()
            if event.name.startswith("roster")]


def shows(api, jid, name, version):
    """Every way of reading shows the write that was answered with that version."""
    roster = api.get("/v1/roster")
    assert roster.version == version
    assert [item["name"] for item in roster.json()["items"] if item["jid"] == jid] == ([name] if name else [])
    assert api.get("/v1/roster", headers={"If-None-Match": f'"{version}"'}).status == 304
    item = api.get(Api.item_path(jid))
    assert item.status == (200 if name else 404) and item.version == version
    assert api.get(f"/v1/roster/changes?since={version}").json()["changes"] == []


def test_a_write_through_either_is_visible_on_both_when_answered(both):
    _, _, here, there = both
    for n in range(10):
        writer, reader = ((here, there), (there, here))[n % 2]
        before = reader.get("/v1/roster").version
        put = writer.put_item(f"friend{n}@example.com", f"Friend {n}")
        assert put.status == 201
        shows(reader, f"friend{n}@example.com", f"Friend {n}", put.version)
        told = reader.get(f"/v1/roster/changes?since={before}").json()["changes"]
        assert [change["version"] for change in told] == [put.version]
        gone = reader.delete_item(f"friend{n}@example.com")
        assert gone.status == 204
        shows(writer, f"friend{n}@example.com", None, gone.version)


def test_statuses_are_the_same_at_the_other_one(both):
    _, _, here, there = both
    assert there.put_item("romeo@example.net", "Romeo").status == 200
    assert there.delete_item("nobody@example.net").status == 404
    assert there.put_item("nurse@example.com", "N", headers={"If-None-Match": "*"}).status == 412
    assert there.patch(Api.item_path("nurse@example.com"), {"name": "N"}).status == 200
    assert there.get("/v1/roster", headers={"Cache-Control": "no-cache"}).version == \
        here.get("/v1/roster").version


def test_of_writes_on_one_version_through_both_one_wins(both):
    _, _, here, there = both
    for n in range(10):
        tag = {"If-Match": here.get(Api.item_path("romeo@example.net")).header("ETag")}
        answers = []

        def write(api, name):
            answers.append(api.put_item("romeo@example.net", name, headers=tag))

        threads = [threading.Thread(target=write, args=(api, f"Romeo {n} {place}"))
                   for api, place in ((here, "here"), (there, "there"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answer.status for answer in answers) == [200, 412]


def test_streams_of_both_tell_the_same(fake, both):
    """Writes through both at once and changes of another XMPP client: one order, whoever is asked."""
    one, two, here, there = both
    with one.stream(here) as first, two.stream(there) as second:
        first.wait_sync()
        second.wait_sync()

        def load(api, place):
            for n in range(40):
                assert api.put_item(f"{place}{n % 7}@example.com", f"{place} {n}").status in (200, 201)

        threads = [threading.Thread(target=load, args=args) for args in ((here, "here"), (there, "there"))]
        for thread in threads:
            thread.start()
        for n in range(20):
            fake.change("juliet", Item(f"elsewhere{n % 5}@example.com", f"Elsewhere {n}"))
        for thread in threads:
            thread.join()
        last = here.put_item("last@example.com", "Last").version
        for stream in (first, second):
            stream.wait_for(lambda event: event.id == last)
        assert changes(first)[1:] == changes(second)[1:]
        assert len(changes(first)) >= 80
        names = {item["jid"]: item["name"] for item in there.get("/v1/roster").json()["items"]}
        assert names == {item.jid: item.name for item in fake.accounts["juliet"].items.values()}


def test_a_stream_goes_on_at_the_other_instance(fake, both):
    one, two, here, there = both
    with one.stream(here) as stream:
        stream.wait_sync()
        fake.change("juliet", Item("seen@example.com"))
        stream.wait_item("seen@example.com")
        last = stream.last_id()
    missed = there.put_item("missed@example.com", "Missed")
    with two.stream(there, last_event_id=last) as stream:
        assert stream.wait_sync().json["resumed"] is True
        assert [event[0] for event in changes(stream)] == [missed.version]


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_the_owner_ends_with_clients_at_the_other(fake, both, how):
    """What was acknowledged stays; what comes afterwards is told on the same stream, without a new roster."""
    one, two, here, there = both
    with two.stream(there) as stream:
        stream.wait_sync()
        assert here.put_item("kept@example.com", "Kept").status == 201
        stream.wait_item("kept@example.com")
        getattr(one, how)()
        put = there.put_item("after@example.com", "After")
        assert put.status == 201, put
        fake.change("juliet", Item("pushed@example.com"))
        stream.wait_item("after@example.com")
        stream.wait_item("pushed@example.com", timeout=20)
        assert [name for _, name, _ in changes(stream)][1:] == ["roster.set"] * 3
        assert {item["jid"] for item in there.get("/v1/roster").json()["items"]} == \
            set(fake.accounts["juliet"].items)


def test_killed_in_mid_write(fake, both):
    """Every 2xx change is in the XMPP server's roster and on the other instance."""
    one, _, here, there = both
    done = []

    def write():
        try:
            while here.put_item(f"write{len(done)}@example.com", f"Write {len(done)}").status == 201:
                done.append(f"write{len(done)}@example.com")
        except (OSError, AssertionError):
            pass  # killed

    thread = threading.Thread(target=write)
    thread.start()
    wait_until(lambda: len(done) >= 20, 20, "twenty writes")
    one.kill()
    thread.join()
    held = {item["jid"] for item in there.get("/v1/roster").json()["items"]}
    assert set(done) <= held
    assert set(done) <= set(fake.accounts["juliet"].items)
    assert there.put_item("after@example.com", "After").status == 201
    assert {item["jid"] for item in there.get("/v1/roster").json()["items"]} == \
        set(fake.accounts["juliet"].items)


@pytest.mark.parametrize("how", ["kill", "flush"])
def test_redis_lost_under_both(fake, both, redis, how):
    """No request fails; afterwards both tell the same again."""
    one, two, here, there = both
    with one.stream(here) as first, two.stream(there) as second:
        first.wait_sync()
        second.wait_sync()
        if how == "kill":
            redis.kill()
        else:
            redis.command("FLUSHALL")
        for n in range(5):
            for api, place in ((here, "here"), (there, "there")):
                assert api.put_item(f"{place}{n}@example.com", place).status == 201
                assert api.get("/v1/roster").status == 200
        if how == "kill":
            redis.start()
        wait_until(lambda: here.get("/v1/roster").version == there.get("/v1/roster").version, 20,
                   "one version on both")
        put = there.put_item("after@example.com", "After")
        assert put.status == 201
        for stream in (first, second):
            stream.wait_for(lambda event: event.id == put.version or (
                event.name == "roster" and "after@example.com" in event.data), timeout=20)
        assert {item["jid"] for item in here.get("/v1/roster").json()["items"]} == \
            set(fake.accounts["juliet"].items)


def test_an_instance_that_is_cut_off_tells_no_older_version(fake, start, redis, proxy):
    """Neither Redis nor XMPP reach it: what it has is told under another prefix than the client's version."""
    fake.add("juliet", items=[Item("romeo@example.net", "Romeo")])
    one, two = start(fake), start(proxy)
    here = one.sign_in(JULIET)
    assert here.put_item("nurse@example.com", "Nurse").status == 201
    there = two.api(here.token)
    with two.stream(there) as stream:
        stream.wait_sync()
        redis.kill()
        proxy.refuse()
        proxy.cut()
        stream.wait_for(lambda event: event.name == "session" and event.json["state"] == "resuming")
    later = here.put_item("friend@example.com", "Friend").version
    with two.stream(there, last_event_id=later) as stream:
        sync = stream.wait_sync()
        assert sync.json["resumed"] is False
        assert sync.id.rsplit("-", 1)[0] != later.rsplit("-", 1)[0]
        assert there.get("/v1/roster").version == sync.id
    with two.stream(there, last_event_id=sync.id) as stream:
        assert stream.wait_sync().json["resumed"] is True


def test_erased_at_one_and_forgotten_by_both(fake, both, redis):
    """Sessions and streams end everywhere, and neither instance writes back what it held."""
    one, two, here, there = both
    with one.stream(here) as first, two.stream(there) as second:
        for stream in (first, second):
            stream.wait_sync()
        assert two.operations(f"/accounts/{JULIET}", "DELETE").status == 204
        for stream in (first, second):
            assert stream.wait_for("bye").json["reason"] == "signed-out"
    wait_until(lambda: not fake.sessions_of("juliet"), what="the end of both XMPP sessions")

    def kept():
        return redis.command("EXISTS", f"rg:{{{JULIET}}}:items", f"rg:{{{JULIET}}}:journal")

    wait_until(lambda: kept() == 0, what="nothing of it in Redis")
    for instance in (one, two):
        assert instance.api(here.token).get("/v1/roster").status == 401
    assert kept() == 0
    for instance in (one, two):
        again = instance.sign_in(JULIET)
        assert set(again.items()) == {"romeo@example.net", "nurse@example.com"}


def test_two_instances_in_front_of_prosody(prosody, start):
    jid = prosody.account("twins")
    one, two = start(prosody), start(prosody)
    here = one.sign_in(jid)
    there = two.api(here.token)
    with one.stream(here) as first, two.stream(there) as second:
        first.wait_sync()
        second.wait_sync()
        for n in range(10):
            writer, reader = ((here, there), (there, here))[n % 2]
            put = writer.put_item(f"friend{n}@example.com", f"Friend {n}")
            assert put.status == 201
            assert reader.get("/v1/roster").version == put.version
        for stream in (first, second):
            stream.wait_item("friend9@example.com")
        assert changes(first)[1:] == changes(second)[1:]


def test_rolled_behind_nginx(fake, start, make_nginx):
    """deploy/two-instances: both are stopped and started, one after the other, while clients write, read and
    listen through nginx. No request fails, no stream misses or repeats anything."""
    for n in range(4):
        fake.add(f"user{n}")
    instances = [start(fake), start(fake)]
    nginx = make_nginx(*instances)
    apis = [Api(nginx.address).sign_in(f"user{n}@example.com") for n in range(4)]
    for api in apis:
        assert api.get("/v1/roster").status == 200
    served = [instance.metric("rostergate_http_requests_total", "/v1/roster") for instance in instances]
    assert sum(served) >= len(apis), served
    failures, over = [], threading.Event()
    written = [[] for _ in apis]

    def work(number):
        api, n = apis[number], 0
        while not over.is_set():
            jid = f"friend{n % 9}@example.com"
            for answer in (api.put_item(jid, f"Friend {n}"), api.get("/v1/roster")):
                if answer.status not in (200, 201):
                    failures.append((number, n, answer))
            written[number].append(f"Friend {n}")
            n += 1

    def listen(api, since=None):
        return SseClient(api, last_event_id=since)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(apis))]
    streams = [listen(api) for api in apis]
    told = [[] for _ in apis]
    for stream in streams:
        stream.wait_sync()
    for thread in threads:
        thread.start()

    def follow():
        """As a browser does: a stream that ended is opened again with the last id."""
        for number, stream in enumerate(streams):
            if stream.ended.is_set():
                told[number] += changes(stream)
                last = stream.last_id()
                stream.close()
                streams[number] = listen(apis[number], last)
                assert streams[number].wait_sync(20).json["resumed"] is True

    def progress(marks):
        follow()
        return all(len(written[number]) >= mark for number, mark in enumerate(marks))

    for instance in instances:
        instance.terminate()
        wait_until(lambda i=instance: follow() or not i.child.running(), 60, "its end")
        instance.stop()
        marks = [len(done) + 10 for done in written]
        wait_until(lambda m=marks: progress(m), 60, "writes go on at the other one")
        instance.start()
        marks = [len(done) + 10 for done in written]
        wait_until(lambda m=marks: progress(m), 60, "and with both again")
    over.set()
    for thread in threads:
        thread.join()
    follow()
    assert failures == []
    for number, api in enumerate(apis):
        last = api.get("/v1/roster").version
        wait_until(lambda n=number, v=last: streams[n].last_id() == v, 20, "all is told")
        told[number] += changes(streams[number])
        streams[number].close()
        seqs = [int(id_.rsplit("-", 1)[1]) for id_, name, _ in told[number] if name != "roster"]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), "missed or repeated"
        names = {item["jid"]: item["name"] for item in api.get("/v1/roster").json()["items"]}
        assert names == {item.jid: item.name for item in fake.accounts[f"user{number}"].items.values()}
