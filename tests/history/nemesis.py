"""The nemesis of a history: breaks the XMPP link and kills workers, all by the seed."""
import asyncio
import random

from proxy import DOWN, UP

# kind -> weight; `--faults` chooses among them.
KINDS = {"cut": 34, "truncate": 24, "cut-all": 6, "stall": 12, "slow": 10, "refuse": 6, "hang": 4}


class Nemesis:
    def __init__(self, world, kinds):
        self.world = world
        self.rng = random.Random(f"{world.seed}/nemesis")
        self.kinds = {kind: weight for kind, weight in KINDS.items() if kind in kinds}
        self.kills = []
        if "kill" in kinds:
            length = world.options.seconds
            self.kills = sorted(self.rng.uniform(0.1, 0.85) * length
                                for _ in range(self.rng.choice([1, 2, 2, 3])))
        self.tasks = []

    async def run(self):
        """Until the world rests. Faults that last are ended by heal()."""
        self.tasks = [asyncio.ensure_future(self.kill_at(time)) for time in self.kills]
        while not self.world.resting.is_set() and self.kinds:
            await asyncio.sleep(self.rng.uniform(0.08, 0.55))
            if self.world.resting.is_set():
                break
            kind = self.rng.choices(list(self.kinds), list(self.kinds.values()))[0]
            proxy = self.rng.choice(self.world.proxies)
            getattr(self, "do_" + kind.replace("-", "_"))(proxy)

    def note(self, kind, **fields):
        self.world.recorder.add("fault", t=self.world.recorder.now(), what=kind, **fields)

    async def kill_at(self, time):
        await asyncio.sleep(time)
        for _ in range(100):  # the worker may just be on its way back
            if self.world.resting.is_set():
                return
            if self.world.gateway.kill_worker(self.rng):
                self.note("kill")
                return
            await asyncio.sleep(0.05)

    def pick(self, proxy):
        """A link of this proxy, or of another one if it has none."""
        links = proxy.ordered() or [link for other in self.world.proxies for link in other.ordered()]
        return self.rng.choice(links) if links else None

    def do_cut(self, proxy):
        link, reset = self.pick(proxy), self.rng.random() < 0.5
        if link is not None:
            link.cut(reset)
            self.note("cut", reset=reset)

    def do_cut_all(self, proxy):
        for link in proxy.ordered():
            link.cut(True)
        self.note("cut-all")

    def do_truncate(self, proxy):
        link = self.pick(proxy)
        direction, size = self.rng.choice([UP, DOWN, DOWN]), int(self.rng.expovariate(1 / 120)) + 1
        if link is not None:
            link.truncate(direction, size)
            self.note("truncate", direction=direction, size=size)

    def do_stall(self, proxy):
        link = self.pick(proxy)
        directions = self.rng.choice([(UP,), (DOWN,), (UP, DOWN)])
        # Longer than iq_timeout now and then: outcomes become unknown.
        seconds = self.rng.choice([0.1, 0.4, 1.0, 3.0])
        if link is not None:
            link.stall(directions, seconds)
            self.note("stall", directions=directions, seconds=seconds)

    def do_slow(self, proxy):
        link = self.pick(proxy)
        directions = self.rng.choice([(UP,), (DOWN,), (UP, DOWN)])
        piece, seconds = self.rng.choice([1, 7, 64]), self.rng.uniform(0.3, 1.5)
        if link is not None:
            link.slow(directions, piece, 0.004, seconds)
            self.note("slow", directions=directions, piece=piece, seconds=round(seconds, 3))

    def do_refuse(self, proxy):
        self.mode(proxy, "refuse", self.rng.uniform(0.1, 0.8))

    def do_hang(self, proxy):
        self.mode(proxy, "hang", self.rng.uniform(0.3, 1.5))

    def mode(self, proxy, mode, seconds):
        if proxy.mode != "pass":
            return
        for link in proxy.ordered():
            link.cut(True)
        proxy.set_mode(mode)
        asyncio.get_running_loop().call_later(seconds, proxy.set_mode, "pass")
        self.note(mode, seconds=round(seconds, 3))

    def heal(self):
        """The last fault: everything flows again from here on."""
        for task in self.tasks:
            task.cancel()
        for proxy in self.world.proxies:
            proxy.heal()
