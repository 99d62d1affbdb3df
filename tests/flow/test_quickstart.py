"""deploy/quickstart as a new user runs it (with the packages there and the release built): it prints an
address and three curl lines that work, and leaves nothing behind when it ends."""
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

from fakes.support import Child, can_connect, deadline, free_port, wait_until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = os.path.join(ROOT, "deploy", "quickstart")
RUN = os.path.join(ROOT, "deploy", ".run")

pytestmark = pytest.mark.slow


@pytest.fixture
def start(tmp_path, release_binary):
    """Starts the script; whatever it started is gone afterwards. A binary elsewhere than in the build
    folder is not what it would run, so then there is nothing to try."""
    build = os.path.dirname(release_binary)
    if not os.path.exists(os.path.join(build, "build.ninja")):
        pytest.skip("RG_RELEASE_BINARY is not in a build folder")
    if os.path.exists(RUN):
        pytest.skip("a quickstart runs in this checkout")
    children = []

    def make(*arguments, **environment):
        child = Child([SCRIPT, "--no-install", *arguments], str(tmp_path / f"log{len(children)}"),
                      env={**os.environ, "ROSTERGATE_BUILD_DIR": build, **environment},
                      # As at a terminal: a shell that was started in the background hands its children an
                      # ignored SIGINT, and bash cannot trap what was ignored from the start.
                      preexec=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        children.append(child)
        return child

    yield make
    for child in children:
        if child.running():
            child.signal(signal.SIGTERM)
            child.wait(60)


def introduced(child):
    wait_until(lambda: "Ctrl-C ends everything" in child.output() or not child.running(), 120,
               lambda: child.output()[-3000:])
    assert child.running(), child.output()
    return child.output()


def descendants(pid):
    found = []
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            for child in children.read().split():
                found += [int(child), *descendants(child)]
    except OSError:     # it has ended meanwhile
        pass
    return found


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids):
    wait_until(lambda: not any(alive(pid) for pid in pids), 20,
               lambda: f"still there: {[pid for pid in pids if alive(pid)]}")
    assert not os.path.exists(RUN)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_quickstart__from_start_to_signal__works_and_leaves_nothing(start, number):
    port = free_port()
    child = start("--port", str(port))
    text = introduced(child)
    assert f"http://127.0.0.1:{port}/" in text
    lines = re.findall(r"^  ((?:TOKEN=\$\(curl|curl) .*)$", text, re.M)
    assert len(lines) == 3, text
    # The third is the live stream, which has no end of its own.
    script = "\n".join(line.replace("curl -sN", "curl --max-time 2 -sN") for line in lines)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False,
                          timeout=deadline(60))
    assert '"romeo@example.com"' in done.stdout and "event: sync" in done.stdout, (done, text)
    page = subprocess.run(["curl", "-s", f"http://127.0.0.1:{port}/"], capture_output=True, text=True,
                          check=False, timeout=deadline(30))
    assert "<title>Rostergate" in page.stdout
    pids = descendants(child.pid)
    assert len(pids) >= 3                # Prosody, the gateway, its worker
    child.signal(number)
    assert child.wait(60) == 0, child.output()
    gone(pids)
    assert not can_connect("127.0.0.1", port)


def test_quickstart__port_in_use__says_so(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        child = start("--port", str(port))
        assert child.wait(120) == 1
    assert f"port {port} is in use" in child.output()
    assert not os.path.exists(RUN)


def test_quickstart__second_one_in_the_checkout__refused(start):
    first = start("--port", str(free_port()))
    introduced(first)
    second = start("--port", str(free_port()))
    assert second.wait(60) == 1
    assert "running already" in second.output()
    assert first.running() and os.path.exists(RUN)


def test_quickstart__gateway_dies__ends_with_its_last_words(start):
    child = start("--port", str(free_port()))
    introduced(child)
    pids = descendants(child.pid)
    gateway = next(pid for pid in pids
                   if os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "rostergate")
    os.kill(gateway, signal.SIGKILL)
    assert child.wait(60) == 1
    assert "the gateway has ended unexpectedly" in child.output()
    gone(pids)


def test_quickstart__package_missing__names_it(start, tmp_path):
    """dpkg-query that knows one package less, first in PATH."""
    real = shutil.which("dpkg-query")
    fake = tmp_path / "bin" / "dpkg-query"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\ncase "$*" in *" uthash-dev") exit 1;; esac\nexec {real} "$@"\n',
                    encoding="ascii")
    fake.chmod(0o755)
    child = start(PATH=f"{fake.parent}:{os.environ['PATH']}")
    assert child.wait(30) == 1
    assert "missing packages: uthash-dev" in child.output()
    assert not os.path.exists(RUN)


def test_quickstart__build_fails__shows_the_log(start, tmp_path):
    """A ninja that can do what cmake asks, but not the build, first in PATH."""
    fake = tmp_path / "bin" / "ninja"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\n[ \"$1 $#\" != \"-C 2\" ] || { echo broken.c: no; exit 1; }\n"
                    f'exec {shutil.which("ninja")} "$@"\n', encoding="ascii")
    fake.chmod(0o755)
    child = start(PATH=f"{fake.parent}:{os.environ['PATH']}",
                  ROSTERGATE_BUILD_DIR=str(tmp_path / "build"))
    assert child.wait(120) == 1
    assert "broken.c: no" in child.output() and "quickstart-build.log" in child.output()
    assert not os.path.exists(RUN)


@pytest.mark.parametrize("arguments, text", [(["--port", "x"], "not a port: x"),
                                             (["--port", "70000"], "not a port: 70000"),
                                             (["--what"], "unknown option: --what")])
def test_quickstart__wrong_arguments__refused(arguments, text):
    done = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False,
                          timeout=deadline(30))
    assert done.returncode == 1 and text in done.stderr


def test_quickstart__help__tells_the_options():
    done = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, check=False,
                          timeout=deadline(30))
    assert done.returncode == 0
    for word in ("--port", "--no-install", "Ctrl-C"):
        assert word in done.stdout
