"""README.md is true: its curl examples are executed as they stand there, against a gateway with the
quickstart's accounts, and their answers compared; its links lead somewhere; deploy/rostergate.conf has
every key with its default; http/openapi.json is what is served, and its calls that are not built say so."""
import json
import os
import re
import subprocess

import pytest

from fakes.prosody import Prosody
from fakes.support import deadline

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SEED = [{"jid": "romeo@example.com", "name": "Romeo", "groups": ["Friends"], "subscription": "both"},
        {"jid": "mercutio@example.com", "name": "Mercutio", "subscription": "from"},
        {"jid": "benvolio@example.com", "name": "Benvolio", "subscription": "both"}]
ANY = "…"
BREAK = "\x1e"          # between the answers of two commands


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


# --- examples ---------------------------------------------------------------------------------------------

def examples(text):
    """[(command, expected answer)] of all ```console blocks: "$ " begins a command, a backslash at the
    end of a line goes on with it."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.M | re.S):
        in_command = False
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append([line[2:], []])
            elif in_command:
                found[-1][0] += "\n" + line
            else:
                found[-1][1].append(line)
            in_command = (line.startswith("$ ") or in_command) and line.endswith("\\")
    return [(command, "\n".join(answer)) for command, answer in found]


def as_regex(text):
    return ".*".join(re.escape(part) for part in text.split(ANY))


def same_json(expected, got, where="answer"):
    if expected == ANY:
        return
    if isinstance(expected, dict):
        assert isinstance(got, dict) and expected.keys() == got.keys(), (where, got)
        for key in expected:
            same_json(expected[key], got[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert isinstance(got, list) and len(expected) == len(got), (where, got)
        for number, (one, other) in enumerate(zip(expected, got)):
            same_json(one, other, f"{where}[{number}]")
    elif isinstance(expected, str) and ANY in expected:
        assert isinstance(got, str) and re.fullmatch(as_regex(expected), got, re.S), (where, got)
    else:
        assert expected == got and type(expected) is type(got), (where, got)


def same_answer(expected, got):
    if expected.startswith("{"):
        same_json(json.loads(re.sub(rf"(: ){ANY}", rf'\1"{ANY}"', expected)), json.loads(got))
        return
    # A line that is only "…" stands for any number of lines.
    pattern = ""
    for line in expected.splitlines():
        pattern += r"(?:[^\n]*\n)*" if line == ANY else as_regex(line).replace(".*", r"[^\n]*") + r"\n"
    assert re.fullmatch(pattern, got.rstrip("\n") + "\n" if got else ""), f"{expected}\n---\n{got}"


def run(commands, environment):
    """The answers, from one shell, so that variables live on."""
    script = "".join(f"{command}\nprintf '{BREAK}'\n" for command in commands)
    done = subprocess.run(["bash", "-u"], input=script, capture_output=True, text=True, check=False,
                          timeout=deadline(60), env=environment)
    assert done.stderr == "", done.stderr
    answers = done.stdout.split(BREAK)[:-1]
    assert len(answers) == len(commands), done.stdout
    return answers


def test_readme__curl_examples__answer_as_written(make_gateway, tmp_path, certificate):
    server = Prosody(tmp_path / "prosody", certificate)
    try:
        server.add("juliet", "juliet-demo", roster=SEED)
        gateway = make_gateway(server, server={"demo": True, "insecure_cookie": True})
        pairs = examples(read("README.md"))
        assert len(pairs) >= 12 and sum(bool(answer) for _, answer in pairs) >= 10
        commands = [command.replace("127.0.0.1:8080", f"127.0.0.1:{gateway.port}")
                    for command, _ in pairs]
        answers = run(commands, {"PATH": os.environ["PATH"]})
        for (command, expected), got in zip(pairs, answers):
            try:
                same_answer(expected, got)
            except (AssertionError, ValueError) as error:
                raise AssertionError(f"$ {command}\n{got}\n{error}") from None
    finally:
        server.stop()


@pytest.mark.parametrize("expected, got, fits", [
    ('{"a": "…", "b": …}', '{"a": "x", "b": [1]}', True),
    ('{"a": "…", "b": …}', '{"a": "x"}', False),
    ('{"a": "x…z"}', '{"a": "xyz"}', True),
    ('{"a": 1}', '{"a": true}', False),
    ("204", "204\n", True),
    ("204", "200\n", False),
    ("…\nevent: a\n…\nevent: b\ndata: …\n…", "retry: 1\n\nevent: a\nid: 1\n\nevent: b\ndata: {}\n\n", True),
    ("…\nevent: a\n…\nevent: b\n…", "event: b\n\nevent: a\n", False),
    ("", "", True),
    ("", "x\n", False),
])
def test_readme__comparison__tells_right_from_wrong(expected, got, fits):
    if fits:
        same_answer(expected, got)
    else:
        with pytest.raises(AssertionError):
            same_answer(expected, got)


# --- documents --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("document", ["README.md", "deploy/README.md", "gateway/README.md",
                                      "gateway/ARCHITECTURE.md", "tests/bench/README.md"])
def test_readme__links_and_paths__exist(document):
    text = read(document)
    folder = os.path.dirname(document)
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert os.path.exists(os.path.join(ROOT, folder, target)), f"{document} links to {target}"
    for path in re.findall(r"`((?:deploy|tests|gateway|http|xmpp|cache)/[\w-][\w./-]*)`", text):
        assert os.path.exists(os.path.join(ROOT, path)), f"{document} names {path}"


def keys_of(text):
    """{section.key: value} of a configuration."""
    found, section = {}, None
    for line in text.splitlines():
        header = re.match(r"^\[(\w+)\]", line)
        pair = re.match(r"^(\w+)\s*=\s*(.*?)\s*(?:\s#.*)?$", line)
        if header:
            section = header[1]
        elif pair:
            found[f"{section}.{pair[1]}"] = pair[2]
    return found


def test_readme__commented_configuration__has_every_key_with_its_default(binary, tmp_path):
    least = tmp_path / "least.conf"
    least.write_text('[xmpp]\ndomains = ["example.com=127.0.0.1:5222"]\n', encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ROSTERGATE_")}

    def print_config(path):
        done = subprocess.run([binary, "--config", path, "--print-config"], capture_output=True,
                              text=True, check=False, env=environment, timeout=deadline(30))
        assert done.returncode == 0, done.stderr
        return keys_of(done.stdout)

    ours = os.path.join(ROOT, "deploy", "rostergate.conf")
    assert print_config(ours) == print_config(least)
    assert keys_of(read("deploy", "rostergate.conf")).keys() == print_config(least).keys()


# --- the contract as OpenAPI ------------------------------------------------------------------------------

def test_openapi__served__is_the_file_and_every_reference_resolves(module_gateway, prosody):
    served = module_gateway(prosody).api().get("/v1/openapi.json")
    assert served.status == 200 and served.header("Content-Type").startswith("application/json")
    contract = json.loads(read("http", "openapi.json"))
    assert served.json() == contract

    def walk(node):
        if isinstance(node, dict):
            if "$ref" in node:
                target = contract
                for part in node["$ref"].removeprefix("#/").split("/"):
                    target = target[part]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(contract)


def operations():
    contract = json.loads(read("http", "openapi.json"))
    for path, methods in contract["paths"].items():
        for method, operation in methods.items():
            if method in ("get", "put", "post", "patch", "delete"):
                yield method.upper(), path, operation


@pytest.fixture(scope="module")
def signed_in(module_gateway, prosody):
    return module_gateway(prosody).sign_in(prosody.account("openapi"))


@pytest.mark.parametrize("method, path, built", [
    (method, path, "x-not-built" not in operation) for method, path, operation in operations()
    # These two would not end, or end the sign-in of all others here; they have flow tests of their own.
    if path != "/v1/events" and (method, path) != ("DELETE", "/v1/session")])
def test_openapi__each_call__is_there_or_says_501(signed_in, method, path, built):
    url = path.replace("{jid}", "nurse@example.com").replace("{code}", "not-found")
    url += "?since=now" if path.endswith("/changes") else ""
    body = {"json_body": {}} if method in ("PUT", "POST", "PATCH") else {}
    if method == "PATCH":
        body["content_type"] = "application/merge-patch+json"
    response = signed_in.call(method, url, **body)
    if built:
        assert response.status not in (405, 501) and response.code != "not-found", response
    else:
        assert (response.status, response.code) == (501, "not-implemented"), response


@pytest.mark.parametrize("parameter", [
    parameter["name"] for method, path, operation in operations() if (method, path) == ("GET", "/v1/roster")
    for parameter in operation["parameters"] if "x-not-built" in parameter])
def test_openapi__each_parameter_not_built__says_501(signed_in, parameter):
    value = {"subscription": "both", "limit": "10"}.get(parameter, "x")
    response = signed_in.get(f"/v1/roster?{parameter}={value}")
    assert (response.status, response.code) == (501, "not-implemented"), response
