"""Keys are rotated while requests go on (threat T3); a bad key file changes nothing."""
import os
import signal
import threading

import pytest

from fakes.support import wait_until

KEYS = [os.urandom(32).hex() for _ in range(3)]


class Rotating:
    def __init__(self, gateway, path):
        self.gateway, self.path, self.reloads = gateway, path, 0

    def write(self, *keys):
        """As an administrator should: a new file in the old one's place."""
        with open(self.path + ".new", "w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write("\n".join(keys) + "\n")
        os.rename(self.path + ".new", self.path)

    def rotate(self, *keys, event="keys-reloaded"):
        before = len(self.gateway.log_lines(event))
        followed = len(self.gateway.log_lines("keys-followed"))
        self.write(*keys)
        self.gateway.child.signal(signal.SIGHUP)
        wait_until(lambda: len(self.gateway.log_lines(event)) > before, what=event)
        if event == "keys-reloaded":
            wait_until(lambda: len(self.gateway.log_lines("keys-followed")) > followed, what="the core")


@pytest.fixture
def make_rotating(fake, make_gateway, tmp_path):
    """A gateway with KEYS[0]."""
    def make(**how):
        fake.add("juliet")
        path = str(tmp_path / "keys")
        gateway = make_gateway(fake, session={"keys_file": path, "state_file": path + "-ends"},
                               limits={"writes_user": 10000}, **how)
        made = Rotating(gateway, path)
        gateway.stop()
        made.write(KEYS[0])
        gateway.start()
        return made
    return make


@pytest.fixture
def rotating(make_rotating):
    return make_rotating()


def test_what_redis_keeps_is_marked_anew(fake, make_rotating, redis):
    """The old key goes, then the process: version, journal and streams go on."""
    rotating = make_rotating(cache={"url": redis.url})
    gateway = rotating.gateway
    api = gateway.sign_in("juliet@example.com")
    version = api.put_item("nurse@example.com", "Nurse").version
    items = "rg:{juliet@example.com}:items"
    before = redis.command("HGETALL", items)
    rotating.rotate(KEYS[1], KEYS[0])
    wait_until(lambda: redis.command("HGETALL", items) != before, what="items under the new key")
    later = api.put_item("romeo@example.net", "Romeo").version
    rotating.rotate(KEYS[1])
    gateway.kill()
    full = len([get for get in fake.gets("juliet") if not get.ver])
    gateway.start()
    again = gateway.sign_in("juliet@example.com")
    assert again.get("/v1/roster").version == later
    assert [change["version"] for change in again.get(f"/v1/roster/changes?since={version}").json()["changes"]] \
        == [later]
    assert len([get for get in fake.gets("juliet") if not get.ver]) == full
    assert gateway.metric("rostergate_redis_not_believed_total") == 0


class Load(threading.Thread):
    """Reads, writes, renews and signs in without a pause; every answer is judged."""

    def __init__(self, gateway, number):
        super().__init__(daemon=True)
        self.gateway, self.number = gateway, number
        self.api = gateway.sign_in("juliet@example.com")
        self.done, self.bad, self.ends = 0, [], threading.Event()

    def run(self):
        while not self.ends.is_set():
            try:
                self.turn()
            except Exception as error:          # a connection that was cut counts as well
                self.bad.append(repr(error))

    def turn(self):
        self.done += 1
        if self.done % 50 == 25:
            self.api = self.gateway.api().sign_in("juliet@example.com")
            return
        if self.done % 10 == 5:
            response = self.api.post("/v1/session/renew", {})
            if response.status == 200:
                self.api.token = response.json()["token"]
        elif self.done % 10 == 7:
            response = self.api.put(f"/v1/roster/items/load{self.number}@example.com",
                                    {"name": str(self.done)})
        else:
            response = self.api.get("/v1/roster")
        if response.status not in (200, 201):
            self.bad.append(repr(response))


def test_rotation_under_load_refuses_nothing(rotating):
    gateway = rotating.gateway
    loads = [Load(gateway, number) for number in range(4)]
    with gateway.stream(gateway.sign_in("juliet@example.com")) as stream:
        stream.wait_sync()
        for load in loads:
            load.start()
        a, b, c = KEYS
        for step in [(a, b), (b, a), (b, a, c), (c, b, a), (a, b, c), (b, c, a)]:
            reached = [load.done + 12 for load in loads]
            wait_until(lambda: all(load.done >= goal for load, goal in zip(loads, reached)), 60,
                       "the load to go round")
            rotating.rotate(*step)
        for load in loads:
            load.ends.set()
        for load in loads:
            load.join()
        assert [load.bad for load in loads] == [[]] * 4
        assert sum(load.done for load in loads) > 250
        assert "bye" not in stream.names()


def test_a_dropped_key_takes_its_tokens_along(rotating):
    gateway = rotating.gateway
    old = gateway.sign_in("juliet@example.com")
    with gateway.stream(old) as stream:
        stream.wait_sync()
        rotating.rotate(KEYS[1], KEYS[0])
        new = gateway.sign_in("juliet@example.com")
        assert old.get("/v1/roster").status == new.get("/v1/roster").status == 200
        assert old.token.split(".")[2] != new.token.split(".")[2]
        rotating.rotate(KEYS[1])
        assert stream.wait_for("bye").json["reason"] == "expired"
    response = old.get("/v1/roster")
    assert (response.status, response.code) == (401, "unauthorized")
    assert new.get("/v1/roster").status == 200


@pytest.mark.parametrize("content", ["", "# nothing\n", "0011\n", "x" * 64 + "\n", None])
def test_a_bad_file_changes_nothing(rotating, content):
    gateway = rotating.gateway
    api = gateway.sign_in("juliet@example.com")
    if content is None:
        os.unlink(rotating.path)
    else:
        with open(rotating.path, "w", encoding="ascii") as file:
            file.write(content)
    gateway.child.signal(signal.SIGHUP)
    wait_until(lambda: gateway.log_lines("keys-kept"), what="keys-kept")
    assert api.get("/v1/roster").status == 200
    assert gateway.sign_in("juliet@example.com").get("/v1/roster").status == 200
    assert content is not None or not os.path.exists(rotating.path)


def test_without_a_file_there_is_nothing_to_reload(fake, gateway):
    fake.add("juliet")
    api = gateway.sign_in("juliet@example.com")
    gateway.child.signal(signal.SIGHUP)
    wait_until(lambda: gateway.log_lines("nothing-to-reload"), what="the log line")
    assert api.get("/v1/roster").status == 200


def test_a_file_that_others_can_read_is_said(rotating):
    os.chmod(rotating.path, 0o644)
    rotating.gateway.child.signal(signal.SIGHUP)
    wait_until(lambda: rotating.gateway.log_lines("keys-file-open-to-others"), what="the warning")
