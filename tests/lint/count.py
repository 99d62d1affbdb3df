"""Prints `PASSED FAILED` of a JUnit file: count.py pytest|ctest FILE. With ctest, the TAP lines of each
program count, one per cmocka test."""
import re
import sys
import xml.etree.ElementTree as ET

OK = re.compile(r"^ok \d+", re.M)
NOT_OK = re.compile(r"^not ok \d+", re.M)


def pytest_counts(root):
    suite = root if root.tag == "testsuite" else root.find("testsuite")
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    return int(suite.get("tests", 0)) - failed - int(suite.get("skipped", 0)), failed


def ctest_counts(root):
    passed = failed = 0
    for case in root.iter("testcase"):
        output = "".join(case.itertext())
        good, bad = len(OK.findall(output)), len(NOT_OK.findall(output))
        passed += good
        failed += bad
        if case.get("status") in ("fail", "notrun") or case.find("failure") is not None:
            # It died, or a sanitizer found something after its last test.
            failed += 0 if bad else 1
        elif good == 0:
            passed += 1
    return passed, failed


def main():
    kind, path = sys.argv[1:3]
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError):
        print("0 1")
        return
    print(*(pytest_counts if kind == "pytest" else ctest_counts)(root))


main()
