"""The command line and the configuration: --check-config, --print-config, the environment, errors with file,
line and key, exit 78 (API 8)."""
import os
import re
import subprocess

import pytest

GOOD = '[xmpp]\ndomains = ["example.com=127.0.0.1:5222"]\n'


@pytest.fixture
def run(binary, tmp_path):
    def run(*argv, text=None, env=None):
        path = tmp_path / "rostergate.conf"
        if text is not None:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ROSTERGATE_")}
        argv = [str(path) if a == "FILE" else a for a in argv]
        return subprocess.run([binary, *argv], capture_output=True, text=True, timeout=30, check=False,
                              env={**clean, **(env or {})})
    return run


def check(run, text, env=None):
    return run("--config", "FILE", "--check-config", text=text, env=env)


def test_a_good_file(run):
    done = check(run, GOOD)
    assert done.returncode == 0, done.stderr


BAD = [
    ("[xmpp]\ndomain = []\n", 2, "domain"), ("[server]\nlistn = \"x\"\n" + GOOD, 2, "listn"),
    ("[nothing]\nx = 1\n" + GOOD, None, "nothing"), ("x = 1\n" + GOOD, 1, "x"),
    (GOOD + "[server]\ndemo = maybe\n", 4, "demo"), (GOOD + "[server]\ndemo = \"true\"\n", 4, "demo"),
    (GOOD + "[server]\nevent_loops = 0\n", 4, "event_loops"),
    (GOOD + "[server]\nevent_loops = many\n", 4, "event_loops"),
    (GOOD + "[server]\nevent_loops = -3\n", 4, "event_loops"),
    (GOOD + "[server]\nevent_loops = 99999999999999999999\n", 4, "event_loops"),
    (GOOD + "workers = 1.5\n", 3, "workers"), (GOOD + "iq_timeout = 10\n", 3, "iq_timeout"),
    (GOOD + "iq_timeout = \"10\"\n", 3, "iq_timeout"), (GOOD + "iq_timeout = \"ten s\"\n", 3, "iq_timeout"),
    (GOOD + "iq_timeout = \"-1s\"\n", 3, "iq_timeout"), (GOOD + "iq_timeout = \"\"\n", 3, "iq_timeout"),
    (GOOD + "workers = 1\nworkers = 2\n", 4, "workers"),
    ("[xmpp]\ndomains = \"example.com\"\n", 2, "domains"), ("[xmpp]\ndomains = [\"a\", 7]\n", 2, "domains"),
    ("[xmpp]\ndomains = [\"\"]\n", None, "domains"), ("[xmpp]\ndomains = [\"a b\"]\n", None, "domains"),
    ("[xmpp]\ndomains = [\"example.com=\"]\n", None, "domains"),
    ("[xmpp]\ndomains = [\"example.com=127.0.0.1\"]\n", None, "domains"),
    ("[xmpp]\ndomains = [\"example.com=127.0.0.1:0\"]\n", None, "domains"),
    ("[xmpp]\ndomains = [\"example.com=127.0.0.1:99999\"]\n", None, "domains"),
    ("[xmpp]\ndomains = [\"e.com=1.2.3.4:1\", \"E.com=1.2.3.4:2\"]\n", None, "domains"),
    (GOOD + "[server]\nlisten = \"0.0.0.0:8080\"\n", None, "plain_http"),
    (GOOD + "[server]\nlisten = \"nowhere\"\n", None, "listen"),
    (GOOD + "[server]\nlisten = \"127.0.0.1:x\"\n", None, "listen"),
    (GOOD + "[cache]\nurl = \"http://x\"\n", None, "url"),
    (GOOD + "[log]\nlevel = \"loud\"\n", None, "level"),
    (GOOD + "[server]\ntrusted_proxies = [\"10.0.0.0/33\"]\n", None, "trusted_proxies"),
    (GOOD + "[server]\ntrusted_proxies = [\"somebody\"]\n", None, "trusted_proxies"),
    (GOOD + "plaintext_loopback = true\n[xmpp]\n", None, None),
    ("[xmpp\ndomains = []\n", 1, None), (GOOD + "just words\n", 3, None),
    (GOOD + "[server]\nlisten = \"unterminated\n", 4, "listen"), (b"\xff\xfe\x00[", None, None),
    (GOOD + "[session]\nkeys_file = \"/nowhere/at/all/keys\"\n[x]\n", None, None),
]


@pytest.mark.parametrize("text,line,key", BAD, ids=range(len(BAD)))
def test_errors_name_file_line_and_key_and_exit_78(run, text, line, key):
    done = check(run, text)
    assert done.returncode == 78, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    if line is not None:
        assert re.search(rf"rostergate\.conf:{line}\b", done.stderr), done.stderr
    if key is not None:
        assert key in done.stderr, done.stderr
    assert "Sanitizer" not in done.stderr


def test_running_with_a_bad_file_is_78_too(run):
    assert run("--config", "FILE", text="[nothing]\nx = 1\n").returncode == 78
    assert run("--config", "no-such-file").returncode == 78


def test_print_config_shows_every_key_and_hides_secrets(run):
    done = run("--config", "FILE", "--print-config",
               text=GOOD + '[cache]\nurl = "redis://:hush-hush@127.0.0.1:6379/0"\n')
    assert done.returncode == 0, done.stderr
    assert "hush-hush" not in done.stdout + done.stderr
    for section, keys in {
            "server": "listen operations demo insecure_cookie origins trusted_proxies http_loops event_loops "
                      "plain_http",
            "xmpp": "domains workers plaintext_loopback ca_file connect_timeout iq_timeout idle_timeout "
                    "max_sessions", "cache": "url ttl",
            "session": "keys_file state_file lifetime max_age",
            "limits": "signin_failures signin_failures_address streams_user streams_address streams "
                      "writes_user items", "events": "max_age heartbeat", "log": "level"}.items():
        part = done.stdout.partition(f"[{section}]\n")[2].partition("\n[")[0]
        for key in keys.split():
            assert re.search(rf"(?m)^{key} = ", part), f"[{section}] {key}"


def test_what_is_printed_can_be_read_again(run):
    first = run("--config", "FILE", "--print-config", text=GOOD + '[server]\norigins = ["https://a.example"]\n')
    again = run("--config", "FILE", "--print-config", text=first.stdout)
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout


def test_the_environment_wins(run):
    done = run("--config", "FILE", "--print-config", text=GOOD + "[log]\nlevel = \"info\"\n", env={
        "ROSTERGATE_LOG_LEVEL": "warn", "ROSTERGATE_SERVER_ORIGINS": "https://a.example,https://b.example",
        "ROSTERGATE_XMPP_IQ_TIMEOUT": "3s", "ROSTERGATE_SERVER_DEMO": "true",
        "ROSTERGATE_LIMITS_STREAMS": "77"})
    assert done.returncode == 0, done.stderr
    for line in ('level = "warn"', 'iq_timeout = "3s"', "demo = true", "streams = 77",
                 'origins = ["https://a.example", "https://b.example"]'):
        assert line in done.stdout, line


@pytest.mark.parametrize("name,value", [("ROSTERGATE_LOG_LEVEL", "loud"), ("ROSTERGATE_SERVER_DEMO", "maybe"),
                                        ("ROSTERGATE_LIMITS_STREAMS", "x"),
                                        ("ROSTERGATE_XMPP_IQ_TIMEOUT", "soon")])
def test_a_bad_environment_names_the_variable(run, name, value):
    done = check(run, GOOD, {name: value})
    assert done.returncode == 78 and name in done.stderr, done.stderr


def test_version_and_help(run):
    assert re.fullmatch(r"rostergate \d+\.\d+\.\d+\n", run("--version").stdout)
    helped = run("--help")
    assert helped.returncode == 0
    for option in ("--config", "--check-config", "--print-config", "--version"):
        assert option in helped.stdout
    wrong = run("--no-such-option")
    assert wrong.returncode not in (0, 78) and "usage" in wrong.stderr.lower()


def test_the_documented_configuration_is_good(run):
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with open(os.path.join(root, "deploy", "rostergate.conf"), encoding="utf-8") as conf:
        done = check(run, conf.read())
    assert done.returncode == 0, done.stderr


def test_a_port_in_use_is_said_and_ends_the_start(make_gateway, fake, run, tmp_path):
    gateway = make_gateway(fake)
    text = (GOOD + f'[server]\nlisten = "127.0.0.1:{gateway.port}"\n'
            f'operations = "127.0.0.1:{gateway.operations_port}"\n')
    done = run("--config", "FILE", text=text)
    assert done.returncode not in (0, 78)
    assert "in use" in done.stderr and str(gateway.port) in done.stderr


def test_keys_are_made_with_mode_0600_and_must_be_good(make_gateway, fake, run, tmp_path):
    keys = tmp_path / "keys"
    gateway = make_gateway(fake, session={"keys_file": str(keys), "state_file": str(tmp_path / "state")})
    assert keys.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"[0-9a-f]{64}\n", keys.read_text())
    gateway.stop()
    keys.write_text("not a key\n")
    text = GOOD + f'[session]\nkeys_file = "{keys}"\nstate_file = "{tmp_path}/state"\n'
    done = run("--config", "FILE", text=text)
    assert done.returncode not in (0,) and "keys" in done.stderr
    assert "not a key" not in done.stderr
