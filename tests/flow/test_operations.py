"""/livez, /readyz, /metrics and the log (API 7, 8)."""
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

from fakes.roster_model import Item
from fakes.sites import SEED


def test_live_and_ready(gateway):
    for path in ("/livez", "/readyz"):
        response = gateway.operations(path)
        assert response.status == 200, response.body
    assert gateway.operations("/livez", "HEAD").status == 200
    assert gateway.operations("/nothing").status == 404
    assert gateway.operations("/metrics", "POST").status == 405


def test_a_server_that_is_away_is_degraded_not_unready(fake, gateway):
    fake.go_away()
    fake.add("juliet")
    assert gateway.api().try_sign_in("juliet@example.com").status == 502
    response = gateway.operations("/readyz")
    assert response.status == 200
    assert b"degraded" in response.body and b"example.com" in response.body


def test_metrics_are_prometheus_text(fake, gateway):
    fake.add("juliet", items=[Item("romeo@example.net")])
    api = gateway.sign_in("juliet@example.com")
    api.get("/v1/roster")
    api.get("/v1/nothing")
    response = gateway.operations("/metrics")
    assert response.getheader("Content-Type").startswith("text/plain; version=0.0.4")
    text = response.body.decode()
    assert text.endswith("\n")
    types, seen = {}, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types, f"{name} twice"
            types[name] = kind
        elif line.startswith("# HELP "):
            assert len(line.split(" ", 3)) == 4
        else:
            match = re.fullmatch(r'([a-z_]+)(\{(?:[a-z_]+="[^"\n]*",?)*\})? (\S+)', line)
            assert match, line
            float(match[3])
            series = match[1] + (match[2] or "")
            assert series not in seen, series
            seen.add(series)
            base = re.sub(r"_(bucket|sum|count)$", "", match[1])
            assert match[1] in types or types.get(base) == "histogram", line
    for name, kind in types.items():
        assert name.startswith(("rostergate_", "process_")), name
        assert (kind == "counter") == name.endswith("_total") or name.startswith("process_"), name
    assert "juliet" not in text and "example.net" not in text, "a user in a label"
    for name in ("rostergate_build_info", "rostergate_http_requests_total",
                 "rostergate_http_request_duration_seconds", "rostergate_streams_open",
                 "rostergate_xmpp_sessions", "rostergate_loop_wakeups_total",
                 "process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total",
                 "process_start_time_seconds"):
        assert name in types, name


def test_routes_are_templates(fake, gateway):
    fake.add("juliet", items=[Item(i["jid"]) for i in SEED])
    api = gateway.sign_in("juliet@example.com")
    for n in range(30):
        api.get(f"/v1/roster/items/friend{n}@example.com")
        api.get(f"/v1/unknown/{n}")
    routes = {re.search(r'route="([^"]*)"', labels)[1]
              for labels in gateway.metrics()["rostergate_http_requests_total"]}
    assert len(routes) <= 25 and not any("friend" in route for route in routes), routes
    assert gateway.metric("rostergate_http_requests_total", 'code="404"') >= 30


def test_the_log_is_one_json_object_a_line(fake, make_gateway):
    gateway = make_gateway(fake, log={"level": "debug"})
    fake.add("juliet")
    api = gateway.sign_in("juliet@example.com")
    api.put_item("nurse@example.com", "Nurse \"quoted\"\\")
    gateway.api().try_sign_in("juliet@example.com", "wrong")
    fake.cut_all()
    api.delete("/v1/session")
    gateway.stop()
    lines = gateway.log().splitlines()
    assert len(lines) > 3
    for line in lines:
        body = json.loads(line)
        assert {"level", "component", "event"} <= set(body), line
        assert body["level"] in ("debug", "info", "warn", "error")
    assert "juliet" not in gateway.log()


def test_levels(fake, make_gateway):
    gateway = make_gateway(fake, log={"level": "error"})
    fake.add("juliet")
    gateway.sign_in("juliet@example.com")
    gateway.stop()
    assert [line for line in gateway.log_lines() if line["level"] != "error"] == []


def test_polled_all_the_time_nobody_is_told_of_anothers_round(gateway):
    """Each who asks has two seconds of his own: no timer of an earlier poll answers a later one."""
    end = time.monotonic() + 4.5

    def poll(path):
        early = []
        while time.monotonic() < end:
            start = time.monotonic()
            status = gateway.operations(path).status
            if status != 200 and time.monotonic() - start < 1.9:
                early.append(status)
        return early

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(poll, ["/livez", "/livez", "/readyz", "/readyz"])] == [[]] * 4
