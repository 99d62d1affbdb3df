"""Processes without privileges: what the kernel says of the real front and workers, the systemd unit, and
the gateway run by somebody who is nobody. What a confined process can still do is asked by
tests/unit/base/test_sandbox.c."""
import glob
import os
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

from fakes.gateway import Gateway
from fakes.support import wait_until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
UNIT = os.path.join(ROOT, "deploy", "rostergate.service")
# What the front and a worker do under this filter, from strace; the rest of the calls are in @default.
NEEDED = """accept4 bind capget clone3 close_range connect epoll_create1 epoll_ctl epoll_wait eventfd2 execve
    fcntl fsync getrandom getsockopt ioctl kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
    listen madvise memfd_create mlock mmap mprotect openat pidfd_open pipe2 poll prctl prlimit64 read recvmsg rename
    seccomp select sendmsg setsockopt shutdown socket socketpair unlink wait4 write""".split()
NOBODY = 65534


def status_of(path):
    with open(path, encoding="ascii", errors="replace") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def assert_confined(pid, bounding=0):
    tasks = glob.glob(f"/proc/{pid}/task/*/status")
    assert tasks
    for path in tasks:
        status = status_of(path)
        assert status["NoNewPrivs"] == "1", path
        assert status["Seccomp"] == "2", f"{path}: no filter"
        for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            held = int(status[kind], 16)
            # A thread from before the listeners were bound may keep CAP_NET_BIND_SERVICE.
            assert held & ~(1 << 10) == 0, f"{path}: {kind} {held:x}"
        assert bounding is None or int(status["CapBnd"], 16) == bounding, path
    assert int(status_of(f"/proc/{pid}/status")["CapEff"], 16) == 0
    with open(f"/proc/{pid}/limits", encoding="ascii") as limits:
        core = re.search(r"^Max core file size\s+(\d+)\s+(\d+)", limits.read(), re.M)
    assert core and core[1] == core[2] == "0"


def test_front_and_workers_hold_no_privilege(fake, gateway):
    fake.add("juliet")
    gateway.sign_in("juliet@example.com")
    assert_confined(gateway.child.pid)
    workers = gateway.worker_pids()
    assert workers
    for pid in workers:
        assert_confined(pid)
    [line] = gateway.log_lines("confined")
    assert line["seccomp"] is True and line["no_capabilities"] is True, line
    assert gateway.log_lines("worker-less-confined") == []


def test_a_worker_that_takes_anothers_place_is_confined_as_well(fake, gateway):
    fake.add("juliet")
    api = gateway.sign_in("juliet@example.com")
    [old] = gateway.worker_pids()
    os.kill(old, signal.SIGKILL)
    new = wait_until(lambda: [pid for pid in gateway.worker_pids() if pid != old], what="a new worker")
    wait_until(lambda: api.get("/v1/session").json()["state"] == "live", what="the session")
    for pid in new:
        assert_confined(pid)


@pytest.mark.slow
def test_the_strict_filter_lets_a_worker_do_all_its_work(prosody, make_gateway, release_binary):
    """The sanitizers' builds have a looser one."""
    gateway = make_gateway(prosody, binary=release_binary)
    jid = prosody.account(roster=[{"jid": "romeo@example.net", "name": "Romeo"}])
    api = gateway.sign_in(jid)
    assert api.put_item("nurse@example.com", name="Nurse").status == 201
    assert api.delete_item("nurse@example.com").status == 204
    for pid in [gateway.child.pid, *gateway.worker_pids()]:
        assert_confined(pid)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_it_runs_as_nobody(fake, release_binary, authority):
    fake.add("juliet")
    folder = tempfile.mkdtemp(prefix="rg-nobody-")
    try:
        os.chmod(folder, 0o755)
        program = shutil.copy(release_binary, os.path.join(folder, "rostergate"))
        trusted = shutil.copy(authority.cert, os.path.join(folder, "ca.pem"))
        os.chmod(program, 0o755)
        os.chmod(trusted, 0o644)
        home = os.path.join(folder, "home")
        os.mkdir(home)
        os.chown(home, NOBODY, NOBODY)
        gateway = Gateway(program, home, {"example.com": fake.address}, ca_file=trusted, start=False,
                          session={"keys_file": os.path.join(home, "keys"),
                                   "state_file": os.path.join(home, "state")})
        try:
            gateway.start(preexec=become_nobody)
            api = gateway.sign_in("juliet@example.com")
            [worker] = gateway.worker_pids()
            # Who never had a capability cannot shrink what no_new_privs makes worthless.
            assert_confined(worker, bounding=None)
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda: gateway.worker_pids() not in ([], [worker]), what="a new worker")
            wait_until(lambda: api.get("/v1/session").json()["state"] == "live", what="the session")
            assert gateway.metric("process_open_fds") > 0
        finally:
            gateway.stop()
    finally:
        shutil.rmtree(folder)


def become_nobody():
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


# --- the unit ---------------------------------------------------------------------------------------

pytest_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")


def analyze(*arguments):
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@pytest_systemd
def test_the_unit_is_exposed_to_little():
    answer = analyze("security", "--offline=true", "--threshold=20", "--no-pager", UNIT)
    assert answer.returncode == 0, answer.stdout[-400:] + answer.stderr
    score = re.search(r"exposure level for rostergate.service: ([\d.]+)", answer.stdout)
    assert score and float(score[1]) <= 2.0, answer.stdout[-400:]


@pytest_systemd
def test_the_units_filter_has_all_that_the_program_needs():
    sets, current = {}, None
    for line in analyze("syscall-filter", "--no-pager").stdout.splitlines():
        if line.startswith("@"):
            current = sets.setdefault(line.strip(), [])
        elif current is not None and line.strip() and not line.strip().startswith("#"):
            current.append(line.strip())

    def expand(names):
        found = set()
        for name in names:
            found |= expand(sets[name]) if name.startswith("@") else {name}
        return found

    allowed = set()
    with open(UNIT, encoding="utf-8") as unit:
        for line in unit:
            key, _, value = line.strip().partition("=")
            if key == "SystemCallFilter" and value.startswith("~"):
                allowed -= expand(value[1:].split())
            elif key == "SystemCallFilter":
                allowed |= expand(value.split())
    missing = set(NEEDED) - allowed - expand(["@default"])
    assert not missing, missing
