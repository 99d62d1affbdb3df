"""tests/RULES.md: no rule is missing, every test named exists, and some test of each rule names it."""
import glob
import os
import re

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Not applicable or not built on purpose: RULES.md says which and why.
LEFT_OUT = {8, 9, 41, *range(75, 82)}
RULES = [f"R{n}" for n in range(1, 85) if n not in LEFT_OUT]


def read(path):
    with open(os.path.join(TESTS, path), encoding="utf-8") as file:
        return file.read()


def flow_tests():
    """{file::test: its source}."""
    found = {}
    for path in glob.glob(os.path.join(TESTS, "flow", "test_*.py")):
        name = os.path.basename(path)[5:-3]
        for body in re.split(r"^(?=def |@)", read(path), flags=re.M):
            match = re.match(r"def (test_\w+)", body)
            if match:
                found[f"{name}::{match[1]}"] = body
    return found


def named(text):
    return re.findall(r"`(\w+::test_\w+…?)`", text)


def matching(tests, name):
    return [key for key in tests if (key.startswith(name[:-1]) if name.endswith("…") else key == name)]


def mentioned(body):
    """The rules that a test's name or docstring names; `R21 to R24` names four."""
    found = set()
    text = " ".join(re.match(r'def (\w+).*?:\n(?:\s+"""(.*?)""")?', body, re.S).groups(""))
    for first, last in re.findall(r"\bR(\d+) to R(\d+)\b", text):
        found |= {f"R{n}" for n in range(int(first), int(last) + 1)}
    found |= {f"R{n}" for n in re.findall(r"(?<![A-Za-z0-9])[rR](\d+)(?![A-Za-z0-9])", text.replace("_", " "))}
    return found


def rows():
    return dict(re.findall(r"^\| (R\d+) \|(.*)$", read("RULES.md"), re.M))


def test_every_rule_has_its_row_in_order():
    assert list(rows()) == RULES


def test_every_test_named_exists():
    tests = flow_tests()
    text = read("RULES.md")
    missing = [name for name in named(text) if not matching(tests, name)]
    assert missing == []
    for path in re.findall(r"`((?:unit|contract|fakes)/[\w/]+\.(?:c|py))`", text):
        assert os.path.exists(os.path.join(TESTS, path)), path


def test_every_rule_is_named_by_a_test():
    tests = flow_tests()
    silent = [rule for rule, row in rows().items()
              if not any(rule in mentioned(tests[key]) for name in named(row)
                         for key in matching(tests, name))]
    assert silent == []
