"""The nemesis of a history: breaks the XMPP link, kills workers and instances, maltreats Redis, all by the
seed."""
import asyncio
import random

from proxy import DOWN, UP

# kind -> weight; `--faults` chooses among them.
KINDS = {"cut": 34, "truncate": 24, "cut-all": 6, "stall": 12, "slow": 10, "refuse": 6, "hang": 4}
REDIS = {"redis-kill": 3, "redis-flush": 3, "redis-roll-back": 3, "redis-pause": 2}


class Nemesis:
    def __init__(self, world, kinds):
        self.world = world
        self.rng = random.Random(f"{world.seed}/nemesis")
        self.kinds = {kind: weight for kind, weight in KINDS.items() if kind in kinds}
        self.redis_kinds = {kind: weight for kind, weight in REDIS.items() if kind in kinds}
        # What is planned, in this order, so that a seed without the later kinds stays what it was.
        length = world.options.seconds
        self.kills = self.times("kill" in kinds, [1, 2, 2, 3], 1)
        self.redis_faults = self.times(bool(self.redis_kinds), [1, 1, 2], length / 10)
        self.gateway_kills = self.times("gateway-kill" in kinds, [1, 1, 2], length / 10)
        self.redis_free, self.gateways_free = asyncio.Lock(), asyncio.Lock()
        self.counts = {"redis": 0, "gateway": 0}
        self.sick = None  # what Redis suffers from
        self.tasks = []

    def times(self, wanted, numbers, factor):
        """Moments at which something is due."""
        if not wanted:
            return []
        number = self.rng.choice(numbers)
        return sorted(self.rng.uniform(0.1, 0.85) * self.world.options.seconds
                      for _ in range(max(number, round(number * factor))))

    async def run(self):
        """Until the world rests. Faults that last are ended by heal()."""
        self.tasks = [asyncio.ensure_future(work(time))
                      for work, times in ((self.kill_at, self.kills), (self.redis_at, self.redis_faults),
                                          (self.kill_gateway_at, self.gateway_kills)) for time in times]
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
            living = self.world.fleet.living()
            if living and (living[0] if len(living) == 1 else self.rng.choice(living)).kill_worker(self.rng):
                self.note("kill")
                return
            await asyncio.sleep(0.05)

    # --- whole instances ------------------------------------------------------------------------
    async def kill_gateway_at(self, time):
        """Never two at once: the next one waits until all are up."""
        await asyncio.sleep(time)
        gateway = self.rng.choice(self.world.fleet.gateways)
        seconds = self.rng.choice([0.05, 0.3, 1.0, 3.0, 7.0])
        async with self.gateways_free:
            self.note("gateway-kill", g=gateway.life, seconds=seconds)
            self.counts["gateway"] += 1
            gateway.kill()
            await asyncio.sleep(seconds)
            await self.revive(gateway)

    async def revive(self, gateway):
        await gateway.revive()
        self.world.recorder.add("up", t=self.world.recorder.now(), g=gateway.life)

    # --- Redis ----------------------------------------------------------------------------------
    async def redis_at(self, time):
        await asyncio.sleep(time)
        kind = self.rng.choices(list(self.redis_kinds), list(self.redis_kinds.values()))[0]
        async with self.redis_free:
            await getattr(self, "do_" + kind.replace("-", "_"))(self.world.redis)

    def hurt(self, kind, **fields):
        self.note(kind, **fields)
        self.counts["redis"] += 1
        self.sick = kind

    def healed(self):
        if self.sick is not None:
            self.world.recorder.add("healed", t=self.world.recorder.now(), what=self.sick)
        self.sick = None

    async def do_redis_kill(self, redis):
        seconds = self.rng.uniform(0.2, 1.5)
        self.hurt("redis-kill", seconds=round(seconds, 3))
        redis.kill()
        await asyncio.sleep(seconds)
        await redis.start()
        self.healed()

    async def do_redis_flush(self, redis):
        self.hurt("redis-flush")
        await redis.command("FLUSHALL")
        self.healed()

    async def do_redis_roll_back(self, redis):
        """It comes back as it was some time ago."""
        await redis.save()
        saved = self.world.recorder.now()
        await asyncio.sleep(self.rng.uniform(0.3, 3))
        seconds = self.rng.uniform(0.05, 1)
        self.hurt("redis-roll-back", to=saved, seconds=round(seconds, 3))
        redis.kill()
        await asyncio.sleep(seconds)
        await redis.start(old=True)
        self.healed()

    async def do_redis_pause(self, redis):
        seconds = self.rng.uniform(0.2, 2)
        self.hurt("redis-pause", seconds=round(seconds, 3))
        redis.pause()
        await asyncio.sleep(seconds)
        redis.go_on()
        self.healed()

    # --- the link -------------------------------------------------------------------------------

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

    async def heal(self):
        """The last fault: everything flows again from here on."""
        for task in self.tasks:
            task.cancel()
        for done in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(done, Exception):
                raise done
        for proxy in self.world.proxies:
            proxy.heal()
        if self.world.redis is not None:
            self.world.redis.go_on()
            if not await self.world.redis.answers():
                self.world.redis.kill()
                await self.world.redis.start(old=self.sick == "redis-roll-back")
            self.healed()
        for gateway in self.world.fleet.gateways:
            if gateway.killed:
                await self.revive(gateway)
