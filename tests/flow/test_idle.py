"""No busy loop anywhere: wake-ups over ten seconds of an idle signed-in session with a stream."""
import time

from fakes.roster_model import Item
from fakes.support import wait_until


def test_ten_idle_seconds(fake, make_gateway):
    # Heartbeats are part of idling: 12 s apart, so at most one falls into the ten seconds.
    gateway = make_gateway(fake)
    fake.add("juliet", items=[Item("romeo@example.net", "Romeo")])
    api = gateway.sign_in("juliet@example.com")
    with gateway.stream(api) as stream:
        stream.wait_sync()
        threads = len(gateway.metrics().get("rostergate_loop_wakeups_total", {}))
        assert threads >= 3, "rostergate_loop_wakeups_total has a series per loop"
        loops = gateway.metric("rostergate_loop_wakeups_total")
        switches = gateway.context_switches()
        start = time.monotonic()
        wait_until(lambda: time.monotonic() - start >= 10, 30, "ten seconds", every=0.5)
        seconds = time.monotonic() - start
        woken = gateway.metric("rostergate_loop_wakeups_total") - loops
        switched = gateway.context_switches() - switches
        # 1 s ticks of liveness per loop would be `threads` a second; reading /metrics itself costs a few.
        print(f"{woken:.0f} wake-ups, {switched} context switches, {threads} loops, {seconds:.1f} s")
        assert woken <= threads * seconds * 1.2 + 40, f"{woken:.0f} wake-ups in {seconds:.1f} s"
        assert switched <= threads * seconds * 2 + 200, f"{switched} context switches"
        assert not stream.ended.is_set()
        fake.change("juliet", Item("alive@example.com"))
        stream.wait_item("alive@example.com")
