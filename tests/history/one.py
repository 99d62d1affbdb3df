"""One history: starts a gateway, lets everybody loose on it for some seconds, waits for rest, stops
it, checks what was recorded. Prints one line of JSON. `run` starts many of these."""
import argparse
import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter

from actors import Reader, User, Witness, Writer
from checker import Checker, load
from gateway import Fleet, Gateway
from health import BESIDE
from model import STRETCH
from nemesis import KINDS, REDIS, Nemesis
from proxy import Proxy
from record import Recorder
from redis_process import Redis
from servers import DOMAINS, KINDS as SERVERS, PASSWORD

REST = 10.0 * STRETCH  # seconds everybody has to agree after the last fault
STABLE = 0.4  # seconds of agreement that count


def settle_options(options):
    """What nobody chose on the command line, the seed chooses."""
    rng = random.Random(f"{options.seed}/options")
    pause, witness_pause = rng.choice([0.03, 0.06, 0.1]), rng.choice([0.01, 0.05, 0.1, 0.3])
    tls = rng.random() < 0.3
    options.pause = options.pause if options.pause is not None else pause
    options.witness_pause = options.witness_pause if options.witness_pause is not None else witness_pause
    options.tls = {"always": True, "never": False, "seed": tls}[options.tls]
    link, beside = list(KINDS) + ["kill"], list(REDIS)
    if options.faults is not None:
        return
    options.faults = link
    if options.redis:
        # In a short history Redis is hardly ever well once it was hurt: what holds while it is well, and
        # what must not be felt when nothing else is broken, have histories of their own.
        options.faults = rng.choice([link + ["gateway-kill"], beside, beside + ["gateway-kill"],
                                     link + beside, link + beside + ["gateway-kill"]])


class World:
    """All that belongs to one history."""

    def __init__(self, options, folder):
        self.options, self.seed, self.folder = options, options.seed, folder
        self.resting, self.over = asyncio.Event(), asyncio.Event()
        self.recorder = Recorder(os.path.join(folder, "history.jsonl"))
        local = f"h{options.seed}"
        # The same local part in two domains: whoever mixes them up is caught.
        self.users = [User("ua", local, DOMAINS[0], PASSWORD), User("ub", local, DOMAINS[1], PASSWORD),
                      User("uc", local + "x", DOMAINS[0], PASSWORD)]
        self.proxies = []
        self.fleet = Fleet([])
        self.redis = None

    async def start_gateway(self, number):
        """Each instance has links to the server of its own, to be broken on their own."""
        ports = {}
        for domain in DOMAINS:
            proxy = Proxy("127.0.0.1", self.options.server_port)
            ports[domain] = await proxy.start()
            self.proxies.append(proxy)
        server = SERVERS[self.options.server](self.options.server_folder)
        gateway = Gateway(self.options.binary, self.folder, number, ports,
                          server.ca_file() if self.options.tls else None,
                          self.redis.url if self.redis else None,
                          patient=not set(self.options.faults) - set(BESIDE))
        self.fleet.gateways.append(gateway)
        await gateway.start()

    async def start(self):
        self.witnesses = [Witness(self, user) for user in self.users]
        await asyncio.gather(*(witness.start(self.options.server_port) for witness in self.witnesses))
        if self.options.redis:
            self.redis = Redis(self.folder)
            await self.redis.start()
        for number in range(1, self.options.instances + 1):
            await self.start_gateway(number)
        self.writers = [Writer(self, user, number) for user in self.users for number in (1, 2)]
        self.readers = [Reader(self, user, number) for user in self.users
                        for number in range(1, self.options.readers + 1)]
        await asyncio.gather(*(actor.start() for actor in self.writers + self.readers))

    async def run(self):
        self.nemesis = nemesis = Nemesis(self, self.options.faults)
        running = [asyncio.ensure_future(actor.run()) for actor in self.witnesses + self.writers]
        following = [asyncio.ensure_future(reader.run()) for reader in self.readers]
        breaking = asyncio.ensure_future(nemesis.run())
        await asyncio.wait([breaking, *following, *running], timeout=self.options.seconds,
                           return_when=asyncio.FIRST_EXCEPTION)
        self.resting.set()
        await nemesis.heal()
        rest = self.recorder.now()
        self.recorder.add("rest", t=rest)
        await asyncio.gather(breaking, *running)
        settled = await self.settle(rest)
        if len(self.fleet.gateways) > 1 and settled is not None:
            settled = await self.agree(rest)
        await asyncio.gather(*(writer.finish() for writer in self.writers))
        await asyncio.gather(*(witness.finish() for witness in self.witnesses))
        self.over.set()
        await asyncio.gather(*following)
        return settled

    async def settle(self, rest):
        """Waits until all readers hold what the witness holds; returns the seconds this took from
        the last fault, None if it never came about."""
        since = self.recorder.now()
        while since is None or self.recorder.now() - since < STABLE:
            if self.recorder.now() > rest + REST + STABLE:
                return None
            if not all(reader.live and reader.items == witness.items for witness in self.witnesses
                       for reader in self.readers if reader.user is witness.user):
                since = None
            elif since is None:
                since = self.recorder.now()
            await asyncio.sleep(0.02)
        return round(since - rest, 3)

    async def agree(self, rest):
        """Waits until all instances give what the witness holds, under one version; as settle."""
        for witness in self.witnesses:
            writer = next(writer for writer in self.writers if writer.user is witness.user)
            while not await writer.agreed(witness.items):
                if self.recorder.now() > rest + REST:
                    return None
                await asyncio.sleep(0.1)
        return round(self.recorder.now() - rest, 3)

    async def stop(self):
        for actor in getattr(self, "readers", ()):
            actor.http.drop()
        for gateway in self.fleet.gateways:
            if gateway.process is not None:
                wrong = await gateway.stop()
                self.recorder.add("gateway", t=self.recorder.now(), wrong=wrong, g=gateway.life)
        if self.redis is not None:
            self.redis.kill()
        for witness in getattr(self, "witnesses", ()):
            await witness.client.close()
        for proxy in self.proxies:
            await proxy.stop()


def add_accounts(options, users):
    server = SERVERS[options.server](options.server_folder)
    for user in users:
        server.port = options.server_port
        server.add(user.local, user.domain)


async def play(options, folder):
    world = World(options, folder)
    world.recorder.add("meta", seed=options.seed, server=options.server, seconds=options.seconds,
                       faults=options.faults, tls=options.tls, pause=options.pause,
                       witness_pause=options.witness_pause, instances=options.instances, redis=options.redis)
    await asyncio.to_thread(add_accounts, options, world.users)
    settled = None
    try:
        await world.start()
        settled = await world.run()
    finally:
        await world.stop()
        world.recorder.save()
    return world, settled


def summary(world, settled, checker):
    violations = checker.violations
    ops = [json.loads(line) for line in world.recorder.lines if line.startswith('{"k": "op"')]
    outcomes = Counter(op["out"] for op in ops if op["op"] in ("put", "patch", "delete"))
    faults = Counter()
    for proxy in world.proxies:
        faults.update(proxy.counts)
    return {
        "seed": world.seed, "tls": world.options.tls, "ops": len(ops), "events": world.recorder.counts["ev"],
        "pushes": world.recorder.counts["wit"], "writes_ok": outcomes["ok"],
        "writes_failed": outcomes["fail"], "writes_unknown": outcomes["unknown"],
        "cuts": faults["cut"], "truncated": faults["truncated"], "stalls": faults["stalled"],
        "slowed": faults["slowed"], "refused": faults["refused"], "kills": sum(gateway.kills for gateway in world.fleet.gateways),
        "gateway_kills": world.nemesis.counts["gateway"], "redis_faults": world.nemesis.counts["redis"],
        "reads": checker.held_to["all"], "reads_alone": checker.held_to["its own process"],
        "settled": settled, "violations": len(violations),
        "kinds": dict(Counter(violation["kind"] for violation in violations)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--server", choices=sorted(SERVERS), default="prosody")
    parser.add_argument("--server-port", type=int, required=True)
    parser.add_argument("--server-folder", required=True)
    parser.add_argument("--faults", type=lambda text: [kind for kind in text.split(",") if kind])
    parser.add_argument("--instances", type=int, default=1)
    parser.add_argument("--redis", action="store_true")
    parser.add_argument("--keep", required=True, help="folder for histories with violations")
    parser.add_argument("--pause", type=float, help="a writer's mean rest, seconds")
    parser.add_argument("--witness-pause", type=float, help="a witness's mean rest, seconds")
    parser.add_argument("--tls", choices=("seed", "always", "never"), default="seed",
                        help="STARTTLS between gateway and server")
    parser.add_argument("--readers", type=int, default=2, help="event streams a user")
    options = parser.parse_args()
    settle_options(options)
    if not options.redis and (options.instances > 1 or set(options.faults) & {*REDIS, "gateway-kill"}):
        parser.error("several instances, their end and faults of Redis need --redis")
    folder = tempfile.mkdtemp(prefix=f"history-{options.seed}-")
    kept = os.path.join(options.keep, f"seed-{options.seed}")
    try:
        world, settled = asyncio.run(play(options, folder))
        checker = Checker(load(world.recorder.path))
        violations = checker.check()
        with open(os.path.join(folder, "violations.jsonl"), "w") as out:
            for violation in violations:
                out.write(json.dumps(violation, ensure_ascii=False) + "\n")
        result = summary(world, settled, checker)
    except Exception as error:
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept)
        print(json.dumps({"seed": options.seed, "error": repr(error)[:2000]}), flush=True)
        raise
    else:
        if violations:
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder, kept)
        print(json.dumps(result), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
