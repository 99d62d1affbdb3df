"""SECURITY.md names tests; each of them exists."""
import glob
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_every_test_that_the_security_page_names_exists():
    with open(os.path.join(ROOT, "SECURITY.md"), encoding="utf-8") as page:
        text = page.read()
    named = set(re.findall(r"`((?:test_\w+|[a-z]+(?:_[a-z0-9]+)*__\w+))`", text))
    assert len(named) > 70, len(named)
    source = ""
    for path in glob.glob(os.path.join(ROOT, "tests", "**", "*"), recursive=True):
        if path.endswith((".py", ".c")):
            with open(path, encoding="utf-8") as file:
                source += file.read()
    missing = [name for name in sorted(named)
               if not re.search(rf"(def |static void |\(){name}\b", source)]
    assert not missing, missing


def test_every_threat_has_a_row():
    with open(os.path.join(ROOT, "SECURITY.md"), encoding="utf-8") as page:
        rows = re.findall(r"^\| (T\d+) \|", page.read(), re.M)
    assert rows == [f"T{n}" for n in range(1, 25)]
