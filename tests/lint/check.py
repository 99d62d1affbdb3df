"""Rules about the source text that no compiler checks. Prints what is wrong, and `PASSED FAILED` last;
each rule on each file is one check."""
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MAX_LINES = 600

# DESIGN section 3: who may include whom. A folder may always include itself.
ARROW = {
    "gateway/base": set(),
    "gateway/ports": {"gateway/base"},
    "gateway/core": {"gateway/ports", "gateway/base"},
    "http": {"gateway/core", "gateway/base"},
    "xmpp": {"gateway/ports", "gateway/base"},
    "cache": {"gateway/ports", "gateway/base"},
}
ROOF = {"gateway/main.c", "gateway/wire.c", "gateway/wire.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
# The machine's own places must not get into the tree; /usr, /etc, /run, /proc, /dev and /tmp are everybody's.
ABSOLUTE = re.compile(r"(?<![\w.~$}/*])/(?:work|home|root|Users|mnt|srv/ci)/[\w.]")


def tracked():
    """Files git knows or would know; without git (a release archive), all files."""
    listing = subprocess.run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"],
                             capture_output=True, text=True, check=False)
    if listing.returncode == 0:
        names = listing.stdout.splitlines()
    else:
        names = [os.path.relpath(os.path.join(folder, name), ROOT)
                 for folder, _, files in os.walk(ROOT) for name in files]
    return sorted(name for name in names if os.path.isfile(os.path.join(ROOT, name))
                  and not name.startswith(("build", ".git/")))


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8", errors="replace") as file:
        return file.read()


def folder_of(name):
    parts = name.split("/")
    return "/".join(parts[:2]) if parts[0] == "gateway" else parts[0]


def arrow(name, text):
    """Includes go along the arrow and are written from the root."""
    folder = folder_of(name)
    for included in INCLUDE.findall(text):
        if not os.path.exists(os.path.join(ROOT, included)):
            yield f'"{included}" is not written from the root'
        elif name not in ROOF and folder in ARROW:
            target = folder_of(included)
            if target != folder and target not in ARROW[folder]:
                yield f"{folder} must not include {target} ({included})"


def length(_name, text):
    lines = text.count("\n")
    if lines > MAX_LINES:
        yield f"{lines} lines, more than {MAX_LINES}"


def paths(name, text):
    if name == "tests/lint/check.py":
        return
    for number, line in enumerate(text.splitlines(), 1):
        found = ABSOLUTE.search(line)
        if found:
            yield f"line {number}: the path of some machine: {line.strip()[:80]}"


def formatted(names):
    """{name: complaint} of clang-format."""
    found = {}
    if not names:
        return found
    done = subprocess.run(["clang-format", "--dry-run", *names], cwd=ROOT, capture_output=True,
                          text=True, check=False)
    for line in done.stderr.splitlines():
        match = re.match(r"^(.+?):(\d+):\d+: warning: code should be clang-formatted", line)
        if match:
            found.setdefault(match[1], f"line {match[2]}: not as clang-format writes it")
    return found


def main():
    names = tracked()
    sources = [name for name in names if name.endswith((".c", ".h"))]
    texts = [name for name in names if name.endswith((".c", ".h", ".py", ".js", ".sh", ".cmake"))
             or name.endswith("CMakeLists.txt")]
    prose = texts + [name for name in names if name.endswith((".md", ".conf", ".html", ".css"))
                     or "." not in os.path.basename(name)]
    complaints, checks = [], 0
    for rule, files in ((arrow, sources), (length, texts), (paths, prose)):
        for name in files:
            checks += 1
            found = list(rule(name, read(name)))
            if found:
                complaints.append((name, rule.__name__, found))
    if shutil.which("clang-format"):
        style = formatted(sources)
        checks += len(sources)
        complaints += [(name, "format", [what]) for name, what in style.items()]
    else:
        complaints.append((".clang-format", "format", ["clang-format is not installed"]))
    for name, rule, found in complaints:
        for what in found:
            print(f"{name}: {rule}: {what}")
    print(checks - len(complaints), len(complaints))
    return 1 if complaints else 0


sys.exit(main())
