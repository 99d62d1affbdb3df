"""What is secret stays secret, what is personal can be erased (threats T2, T7, T22; SECURITY.md)."""
import os
import re
import signal
import urllib.parse

import pytest

from fakes.support import PASSWORD, wait_until

PLANTED = [f"Planted-{number:02d}-{os.urandom(6).hex()}" for number in range(12)]


def everything_readable(gateway, folder):
    """(name, bytes) of all that the gateway writes or shows."""
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    yield path, file.read()
    yield "/metrics", gateway.operations("/metrics").body
    yield "/readyz", gateway.operations("/readyz").body
    for pid in [gateway.child.pid, *gateway.worker_pids()]:
        for name in ("cmdline", "environ", "status"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                yield f"/proc/{pid}/{name}", file.read()


def test_twelve_planted_secrets_are_nowhere(fake, make_gateway, tmp_path, release_binary):
    """Passwords right and wrong, tokens in the places where they do not belong, names and groups of the
    roster, the key, a message body: 0 of 12 in log, metrics, files, arguments or core."""
    key = os.urandom(32).hex()
    keys = tmp_path / "keys"
    keys.write_text(key + "\n", encoding="ascii")
    keys.chmod(0o600)
    state = tmp_path / "state"
    gateway = make_gateway(fake, session={"keys_file": str(keys), "state_file": str(state)})
    gateway.secrets.clear()
    (right, wrong, resource, name, group, in_query, in_path, in_header, in_cookie, in_body, in_member,
     message) = PLANTED
    fake.add("juliet", password=right)
    api = gateway.sign_in("juliet@example.com", right)
    assert gateway.api().try_sign_in("juliet@example.com", wrong).status == 401
    gateway.api().try_sign_in(f"juliet@example.com/{resource}", wrong)
    assert api.put_item("nurse@example.net", name=name, groups=[group]).status == 201
    api.get(f"/v1/roster?token={in_query}", token=None)
    api.get(f"/v1/{in_path}", token=None)
    api.get("/v1/roster", token=in_header)
    api.get("/v1/roster", token=None, headers={"Cookie": f"__Host-rg={in_cookie}; rg={in_cookie}"})
    api.call("PUT", "/v1/roster/items/a@example.net", b'{"name": "' + in_body.encode(),
             content_type="application/json")
    api.put("/v1/roster/items/a@example.net", {in_member: 1})
    [session] = fake.sessions_of("juliet")
    session.send(f"<message from='romeo@example.net' to='{session.jid}'><body>{message}</body></message>")
    session.send(f"<iq type='set' id='x' from='evil@example.net'><query xmlns='jabber:iq:roster'>"
                 f"<item jid='evil@example.net' name='{message}'/></query></iq>")
    gateway.wait_metric("rostergate_http_requests_total", lambda n: n > 6)
    api.delete("/v1/session")
    looked_at = list(everything_readable(gateway, gateway.folder)) + [
        ("state", state.read_bytes() if state.exists() else b"")]
    sanitized = [(name_, data) for name_, data in looked_at if not name_.endswith("rostergate.conf")]
    for secret in [*PLANTED, key, api.token, api.token.split(".")[3][:40]]:
        found = [where for where, data in sanitized if secret.encode() in data]
        assert found == [], f"{secret} in {found}"
    assert b"juliet" not in gateway.operations("/metrics").body
    assert "juliet@" not in gateway.log() and "nurse@" not in gateway.log()


@pytest.mark.slow
@pytest.mark.parametrize("who", ["front", "worker"])
def test_a_crash_leaves_no_core_file(fake, make_gateway, release_binary, tmp_path, who):
    """However high the limit of whoever starts it: not dumpable, limit 0."""
    import resource
    fake.add("juliet")
    gateway = make_gateway(fake, binary=release_binary, expect_exit=None if who == "front" else 0)
    gateway.reports_allowed = True
    gateway.stop()
    gateway.start(preexec=lambda: (os.chdir(tmp_path), resource.setrlimit(
        resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))))
    api = gateway.sign_in("juliet@example.com")
    if who == "worker":
        [worker] = gateway.worker_pids()
        os.kill(worker, signal.SIGSEGV)
        wait_until(lambda: gateway.worker_pids() not in ([], [worker]), what="a new worker")
        assert api.get("/v1/roster").status == 200
    else:
        gateway.child.signal(signal.SIGSEGV)
        wait_until(lambda: not gateway.child.running(), what="the end of the front")
    found = [name for name in os.listdir(tmp_path) if re.search(r"core", name)]
    assert found == []


# --- erasing ------------------------------------------------------------------------------------------

def erase(gateway, jid, headers=None):
    import http.client
    connection = http.client.HTTPConnection("127.0.0.1", gateway.operations_port, timeout=20)
    connection.request("DELETE", "/accounts/" + urllib.parse.quote(jid, safe="@"), headers=headers or {})
    response = connection.getresponse()
    response.body = response.read()
    connection.close()
    return response


def test_an_account_is_erased(fake, make_gateway, tmp_path):
    state = tmp_path / "state"
    gateway = make_gateway(fake, session={"keys_file": str(tmp_path / "keys"), "state_file": str(state)})
    for name in ("juliet", "romeo"):
        fake.add(name)
    juliet, romeo = gateway.sign_in("juliet@example.com"), gateway.sign_in("romeo@example.com")
    assert juliet.put_item("nurse@example.net", name="Nurse").status == 201
    with gateway.stream(juliet) as stream:
        stream.wait_sync()
        assert erase(gateway, "JULIET@example.com").status == 204
        assert stream.wait_for("bye").json["reason"] == "signed-out"
    assert juliet.get("/v1/roster").status == 401
    wait_until(lambda: not fake.sessions_of("juliet"), what="the end of the XMPP session")
    assert romeo.get("/v1/roster").status == 200
    # Nothing is answered from memory, even while the XMPP server is away.
    gateway.restart()
    assert juliet.with_token(juliet.token).get("/v1/roster").status == 401, "the end outlives the process"
    fake.refuse()
    assert gateway.api().try_sign_in("juliet@example.com").status == 502
    fake.listen()
    again = gateway.sign_in("juliet@example.com")
    assert set(again.items()) == {"nurse@example.net"}
    assert erase(gateway, "nobody@example.com").status == 204


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "same-origin"},
                                     {"Origin": "null"}])
def test_web_pages_erase_nothing(fake, gateway, headers):
    fake.add("juliet")
    api = gateway.sign_in("juliet@example.com")
    assert erase(gateway, "juliet@example.com", headers).status == 403
    assert api.get("/v1/roster").status == 200


@pytest.mark.parametrize("jid", ["", "@", "juliet", "juliet@", "a b@example.com", "%ff"])
def test_what_names_no_account_erases_nothing(gateway, jid):
    assert erase(gateway, jid).status in (400, 404, 405, 422)


def test_operations_are_not_on_the_public_listener(fake, gateway):
    """T22: neither health, nor numbers, nor erasing."""
    fake.add("juliet")
    api = gateway.sign_in("juliet@example.com")
    for path in ("/metrics", "/livez", "/readyz", "/accounts/juliet@example.com", "/debug", "/admin"):
        assert api.get(path).status == 404, path
        assert api.delete(path).status in (404, 405), path
    assert api.get("/v1/roster").status == 200
    assert PASSWORD not in gateway.log()
