"""The demo page in headless Chromium, against the gateway and real Prosody: what a person sees on the left
when something changes on the right, or outside, or when the gateway goes away and comes back."""
import json
import re

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from fakes.support import PASSWORD, wait_until
from fakes.witness import Witness

CHROMIUM = "/usr/bin/chromium"
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage", "--window-size=1200,1600")
HOSTILE = """<img src=x onerror="document.title='owned'">'"&amp;</li>"""
SEED = [{"jid": "romeo@example.com", "name": "Romeo", "groups": ["Friends"], "subscription": "both"},
        {"jid": "mercutio@example.com", "name": "Mercutio", "subscription": "from"},
        {"jid": "benvolio@example.com", "name": "Benvolio", "subscription": "both"}]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    yield browser
    browser.quit()


@pytest.fixture
def demo(make_gateway, prosody, tmp_path):
    """A gateway with the page, whose tokens outlive a restart."""
    return make_gateway(prosody, server={"demo": True, "insecure_cookie": True},
                        session={"keys_file": str(tmp_path / "keys"),
                                 "state_file": str(tmp_path / "state")})


def patiently(condition, what, timeout=15):
    """A page that redraws itself lets elements go while we look; then we look again."""

    def look():
        try:
            return condition()
        except StaleElementReferenceException:
            return None

    return wait_until(look, timeout, what, every=0.05)


class Panel:
    """One side of the page, by what a person sees of it."""

    def __init__(self, driver, number):
        self.root = driver.find_element(By.ID, f"panel-{number}")

    def find(self, selector):
        return self.root.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return patiently(lambda: self.find(selector).text, selector)

    def fill(self, form, **fields):
        for name, value in fields.items():
            field = self.find(f"{form} [name={name}]")
            field.clear()
            field.send_keys(value)

    def submit(self, form):
        # Off while the last one is under way.
        patiently(lambda: self.find(f"{form} [type=submit]").is_enabled(), f"{form} can be submitted")
        self.find(f"{form} [type=submit]").click()

    def sign_in(self, jid, password=PASSWORD):
        self.fill(".sign-in", jid=jid, password=password)
        self.submit(".sign-in")

    def live(self):
        patiently(lambda: self.find(".state-text").text == "live", "panel is live")
        return self

    def groups(self):
        """{group: [(name, jid)]} as it stands on the page; None while it is being redrawn."""
        try:
            found = {}
            for group in self.root.find_elements(By.CSS_SELECTOR, ".group"):
                rows = group.find_elements(By.CSS_SELECTOR, ".item")
                found[group.find_element(By.TAG_NAME, "h4").text] = [
                    (row.find_element(By.CSS_SELECTOR, ".item-name").text,
                     row.get_attribute("data-jid")) for row in rows]
            return found
        except StaleElementReferenceException:
            return None

    def shows(self, expected):
        wait_until(lambda: self.groups() == expected, 15,
                   lambda: f"page shows {expected}\nis {self.groups()}", every=0.05)

    def contains(self, group, name, jid):
        wait_until(lambda: (name, jid) in (self.groups() or {}).get(group, []), 15,
                   lambda: f"{jid} as {name!r} in {group}\nis {self.groups()}", every=0.05)

    def lacks(self, jid):
        wait_until(lambda: self.groups() is not None and all(
            jid != found for rows in self.groups().values() for _, found in rows), 15,
            lambda: f"no {jid}\nis {self.groups()}", every=0.05)

    def add(self, jid, name="", groups=""):
        self.fill(".add", jid=jid, name=name, groups=groups)
        self.submit(".add")

    def edit(self, jid, **fields):
        row = f'[data-jid="{jid}"]'
        patiently(lambda: self.find(f"{row} .edit").click() or True, f"edit {jid}")
        self.fill(f"{row} .item-edit", **fields)
        self.submit(f"{row} .item-edit")

    def remove(self, jid):
        patiently(lambda: self.find(f'[data-jid="{jid}"] .remove').click() or True, f"remove {jid}")


@pytest.fixture
def page(driver, demo):
    driver.get(f"http://127.0.0.1:{demo.port}/")
    patiently(lambda: len(driver.find_elements(By.CSS_SELECTOR, ".panel")) == 2, "two panels")
    driver.get_log("browser")
    return Panel(driver, 1), Panel(driver, 2)


@pytest.fixture
def two(page, prosody):
    """The same user on both sides, the list of the seed on both."""
    jid = prosody.account("juliet", roster=SEED)
    for panel in page:
        panel.sign_in(jid)
    for panel in page:
        panel.live()
        panel.contains("Friends", "Romeo", "romeo@example.com")
    return (*page, jid)


def page_errors(driver, *, expected=()):
    """What the console complains of, but for failed requests that the test caused. A violation of the
    content security policy would stand here."""
    return [entry for entry in driver.get_log("browser")
            if entry["level"] in ("SEVERE", "WARNING")
            and not any(part in entry["message"] for part in ("favicon.ico", *expected))]


def test_page__two_users__each_sees_the_own_list(page, prosody, driver):
    left, right = page
    left.sign_in(prosody.account("juliet", roster=SEED))
    right.sign_in(prosody.account("romeo", roster=[
        {"jid": "juliet@example.com", "name": "Juliet", "groups": ["Friends"], "subscription": "both"}]))
    left.live()
    right.live()
    left.shows({"Friends": [("Romeo", "romeo@example.com")],
                "No group": [("Benvolio", "benvolio@example.com"), ("Mercutio", "mercutio@example.com")]})
    right.shows({"Friends": [("Juliet", "juliet@example.com")]})
    left.add("nurse@example.com", "Nurse", "Servants")
    left.contains("Servants", "Nurse", "nurse@example.com")
    right.shows({"Friends": [("Juliet", "juliet@example.com")]})
    assert page_errors(driver) == []


def test_page__add_rename_regroup_remove__seen_live_on_the_other_side(two, driver):
    left, right, _ = two
    left.add("nurse@example.com", "Nurse", "Servants")
    right.contains("Servants", "Nurse", "nurse@example.com")
    right.edit("nurse@example.com", name="Angelica")
    left.contains("Servants", "Angelica", "nurse@example.com")
    left.edit("nurse@example.com", groups="Household, Friends")
    for panel in (left, right):
        panel.contains("Household", "Angelica", "nurse@example.com")
        panel.contains("Friends", "Angelica", "nurse@example.com")
        assert "Servants" not in patiently(panel.groups, "the groups")
    right.remove("nurse@example.com")
    left.lacks("nurse@example.com")
    assert page_errors(driver) == []


def test_page__change_by_another_client__seen_on_both_sides(two, prosody, authority):
    left, right, jid = two
    witness = Witness(jid, PASSWORD, prosody.port, authority.cert)
    try:
        witness.set_item("paris@example.com", "Paris", ["Suitors"])
        for panel in (left, right):
            panel.contains("Suitors", "Paris", "paris@example.com")
        witness.remove_item("paris@example.com")
        for panel in (left, right):
            panel.lacks("paris@example.com")
    finally:
        witness.close()


def test_page__hostile_name_and_group__shown_as_text(two, driver):
    left, right, _ = two
    left.add("mallory@example.com", HOSTILE, "<script>document.title='owned'</script>")
    for panel in (left, right):
        panel.contains("<script>document.title='owned'</script>", HOSTILE, "mallory@example.com")
        assert panel.root.find_elements(By.CSS_SELECTOR, "img, script") == []
    left.remove("mallory@example.com")
    right.lacks("mallory@example.com")
    history = right.find(".log").get_attribute("textContent")
    assert HOSTILE in history
    assert driver.title == "Rostergate: live contact lists"
    assert page_errors(driver) == []


def test_page__editor_open_while_list_changes__keeps_what_was_typed(two):
    left, right, _ = two
    row = '[data-jid="mercutio@example.com"]'
    left.find(f"{row} .edit").click()
    left.fill(f"{row} .item-edit", name="Merc")
    right.add("nurse@example.com", "Nurse", "Servants")
    left.contains("Servants", "Nurse", "nurse@example.com")
    assert left.find(f"{row} .item-edit [name=name]").get_attribute("value") == "Merc"
    left.submit(f"{row} .item-edit")
    right.contains("No group", "Merc", "mercutio@example.com")


def test_page__wrong_password_and_refused_write__say_so(page, prosody):
    left, _ = page
    jid = prosody.account("juliet", roster=SEED)
    left.sign_in(jid, "wrong")
    assert "unauthorized" in patiently(lambda: left.find(".error").text, "an error is shown")
    left.sign_in(jid)
    left.live()
    assert not left.find(".error").is_displayed()
    left.add("two words@example.com")
    assert "invalid-jid" in patiently(lambda: left.find(".error").text, "an error is shown")
    assert left.find(".add [name=jid]").get_attribute("value") == "two words@example.com"
    left.add("romeo@example.com", "Again")
    assert "version-mismatch" in patiently(
        lambda: "mismatch" in left.find(".error").text and left.find(".error").text, "an error is shown")
    left.contains("Friends", "Romeo", "romeo@example.com")


def test_page__gateway_restarts__says_so_and_catches_up(driver, two, demo, prosody, authority):
    left, right, jid = two
    demo.stop()
    for panel in (left, right):
        patiently(lambda p=panel: "connection lost" in p.find(".state-text").text
                  or "connecting" in p.find(".state-text").text, "the page says that it is cut off")
    witness = Witness(jid, PASSWORD, prosody.port, authority.cert)
    try:
        witness.set_item("paris@example.com", "Paris", ["Suitors"])
        witness.remove_item("benvolio@example.com")
    finally:
        witness.close()
    demo.start()
    driver.execute_script("dispatchEvent(new Event('online'))")     # else it may wait for half a minute
    for panel in (left, right):
        panel.live()
        panel.contains("Suitors", "Paris", "paris@example.com")
        panel.lacks("benvolio@example.com")
    left.add("nurse@example.com", "Nurse", "Servants")
    right.contains("Servants", "Nurse", "nurse@example.com")


def test_page__stream_cut__resumes_with_what_was_missed(driver, make_gateway, prosody, tmp_path):
    # A stream's life is one second here: it is cut and resumed again and again under our hands.
    gateway = make_gateway(prosody, server={"demo": True}, events={"max_age": "1s"})
    driver.get(f"http://127.0.0.1:{gateway.port}/")
    patiently(lambda: len(driver.find_elements(By.CSS_SELECTOR, ".panel")) == 2, "two panels")
    left, right = Panel(driver, 1), Panel(driver, 2)
    jid = prosody.account("juliet", roster=SEED)
    for panel in (left, right):
        panel.sign_in(jid)
        panel.contains("Friends", "Romeo", "romeo@example.com")
    log = right.find(".log")
    for number in range(6):
        left.add(f"guest{number}@example.com", f"Guest {number}", "Guests")
        right.contains("Guests", f"Guest {number}", f"guest{number}@example.com")
    patiently(lambda: "resumed where the stream was cut" in log.get_attribute("textContent"), "a resume")
    assert log.get_attribute("textContent").count("list complete") == 1


def test_page__sign_out__forgets_the_list(two, demo):
    left, right, _ = two
    left.find(".sign-out").click()
    patiently(lambda: left.find(".sign-in").is_displayed(), "the form is back")
    assert left.groups() == {}
    assert left.find(".state-text").text == "signed out"
    right.add("nurse@example.com", "Nurse", "Servants")
    right.contains("Servants", "Nurse", "nurse@example.com")


def test_page__cookie_sign_in__survives_a_reload(driver, page, demo, prosody):
    """rostergate.js by itself, with the token in an HttpOnly cookie that no script can read."""
    jid = prosody.account("juliet", roster=SEED)
    run = """
        const [jid, password, done] = arguments;
        import('/rostergate.js').then(async ({ Rostergate }) => {
            const gate = new Rostergate({ cookie: true });
            if (jid) await gate.signIn(jid, password); else if (!await gate.resume()) throw Error('none');
            const list = [...gate.roster.keys()].sort();
            if (!jid) await gate.signOut(); else gate.close();
            done([list, document.cookie, gate.jid]);
        }).catch((error) => done(String(error)));
    """
    expected = [["benvolio@example.com", "mercutio@example.com", "romeo@example.com"], "", jid]
    assert driver.execute_async_script(run, jid, PASSWORD) == expected
    driver.refresh()
    assert driver.execute_async_script(run, None, None) == expected
    assert "none" in driver.execute_async_script(run, None, None)


CUT_EVERYWHERE = """
    const done = arguments[0];
    const text = 'retry: 500\\r\\n: note\\r\\nid: a-1\\revent: x\\rdata: 1\\r\\rid: a-2\\ndata: one\\ndata:two\\n\\n' +
        'event: none\\n\\nid: a-3\\ndata: cut off\\n';
    import('/rostergate.js').then(({ EventStreamParser, versionReached }) => {
        const seen = new Set();
        for (let size = 1; size <= text.length; size++) {
            const found = [];
            const parser = new EventStreamParser({
                onEvent: (event) => found.push([event.type, event.data, event.id]),
                onRetry: (ms) => found.push(ms),
            });
            for (let at = 0; at < text.length; at += size) parser.feed(text.slice(at, at + size));
            found.push(parser.lastEventId);
            seen.add(JSON.stringify(found));
        }
        done([[...seen], versionReached('E.m-10', 'E.m-9'), versionReached('E.m-9', 'E.m-10'),
              versionReached('E.n-10', 'E.m-9'), versionReached(null, 'E.m-9')]);
    }).catch((error) => done(String(error)));
"""


def test_client__stream_in_any_pieces__same_events(driver, page):
    found, *ordered = driver.execute_async_script(CUT_EVERYWHERE)
    assert [json.loads(run) for run in found] == [
        [500, ["x", "1", "a-1"], ["message", "one\ntwo", "a-2"], "a-2"]]
    assert ordered == [True, False, False, False]


def test_client__token_ends__renewed_until_the_password_is_too_old(driver, make_gateway, prosody):
    gateway = make_gateway(prosody, server={"demo": True}, session={"lifetime": "8s", "max_age": "12s"})
    driver.get(f"http://127.0.0.1:{gateway.port}/")
    told = driver.execute_async_script("""
        const [jid, password, done] = arguments;
        import('/rostergate.js').then(async ({ Rostergate }) => {
            const gate = new Rostergate();
            const told = [];
            for (const type of ['renewed', 'expiring', 'signed-out']) {
                gate.addEventListener(type, (event) => {
                    told.push([type, event.detail.reason]);
                    if (type === 'signed-out') done(told);
                });
            }
            gate.addEventListener('problem', (event) => told.push(['problem', event.detail.error.code]));
            await gate.signIn(jid, password);
        }).catch((error) => done(String(error)));
    """, prosody.account("juliet", roster=SEED), PASSWORD)
    kinds = [kind for kind, _ in told]
    assert kinds[0] == "renewed" and kinds[-2:] == ["expiring", "signed-out"], told
    assert told[-1][1] in ("expired", "unauthorized") and "problem" not in kinds, told


def test_page__policy__no_inline_code_anywhere(demo):
    response = demo.api().get("/")
    assert response.status == 200, response
    policy = response.header("Content-Security-Policy") or ""
    assert "default-src 'none'" in policy and "unsafe" not in policy, policy
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\bsrc=)", response.body.decode())
    for path, kind in (("/app.js", "text/javascript"), ("/style.css", "text/css"),
                       ("/rostergate.js", "text/javascript")):
        response = demo.api().get(path)
        assert response.status == 200, (path, response)
        assert response.header("Content-Type").startswith(kind), (path, response.headers)


def test_page__not_a_demo__only_the_client_is_served(make_gateway, prosody):
    gateway = make_gateway(prosody)
    assert gateway.api().get("/rostergate.js").status == 200
    for path in ("/", "/app.js", "/style.css"):
        assert gateway.api().get(path).status == 404, path
