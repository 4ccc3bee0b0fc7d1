"""The page in a real browser: headless Chromium, driven through chromedriver's HTTP interface."""

import socket
import subprocess
import time
from contextlib import contextmanager

import httpx
import pytest

from tests.sample_report import SampleArchive, SampleLive, make_archive, make_incident, make_report, serving

pytestmark = pytest.mark.needs_chromium
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1100,900")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """The few WebDriver calls that the tests need."""

    def __init__(self, base, folder):
        self._client = httpx.Client(base_url=base, trust_env=False, timeout=60)
        options = {"args": [*FLAGS, f"--user-data-dir={folder}"], "binary": "/usr/bin/chromium"}
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options,
                                                   "goog:loggingPrefs": {"browser": "ALL"}}}}
        self._session = self._call("POST", "/session", wanted)["sessionId"]

    def _call(self, method, path, body=None):
        answer = self._client.request(method, path, json=body).json()["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise AssertionError(answer["message"])
        return answer

    def do(self, method, path, body=None):
        return self._call(method, f"/session/{self._session}{path}", body)

    def open(self, url):
        self.do("POST", "/url", {"url": url})

    def js(self, script, *args):
        return self.do("POST", "/execute/sync", {"script": script, "args": list(args)})

    def until(self, script, seconds=15.0):
        """What `return script` gives as soon as it is truthy."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := self.js(f"return {script}"):
                return found
            time.sleep(0.05)
        pytest.fail(f"never true: {script}\n{self.js('return document.body.innerText')[:2000]}")

    def text(self):
        return self.js("return document.body.innerText")

    def click(self, selector):
        element = self.do("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]
        self.do("POST", f"/element/{element}/click", {})

    def complaints(self):
        """What the console holds, without the failed requests that a test caused on purpose."""
        entries = self.do("POST", "/se/log", {"type": "browser"})
        return [e["message"] for e in entries if "Failed to load resource" not in e["message"]]

    def quit(self):
        self.do("DELETE", "")
        self._client.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        _wait_for_driver(base)
        browser = Browser(base, tmp_path_factory.mktemp("chromium"))
        yield browser
        browser.quit()
    finally:
        driver.terminate()
        driver.wait(10)


def _wait_for_driver(base):
    for _ in range(200):
        try:
            if httpx.get(base + "/status", trust_env=False).json()["value"]["ready"]:
                return
        except httpx.HTTPError:
            time.sleep(0.05)
    pytest.fail("chromedriver does not answer")


@contextmanager
def page(browser, archive, **settings):
    with serving(archive, **settings) as server:
        browser.open(server.address + "/")
        yield server
        browser.open("about:blank")


def sample(**changes):
    live = SampleLive(running=True)
    live.changes = changes
    return make_archive(live)


def test_the_list_shows_what_is_wrong_since_when_and_who(browser):
    with page(browser, sample()):
        browser.until("document.querySelectorAll('.incident').length == 2")
        first = browser.js("return document.querySelector('.incident').innerText")
        assert "critical" in first
        assert "CONFIRMED" in first
        assert "billing-api.service is throttled by its own CPU quota" in first
        assert "firing since" in first
        assert "by billing-api.service" in first
        head = browser.js("return document.querySelector('header').innerText")
        for part in ("gpu-17", "T1 eBPF", "ready", "1 firing", "0.43 % CPU · 131 MB"):
            assert part in head
        assert "links failed: netlink: Operation not permitted; run `etio doctor`" in browser.text()
        assert browser.complaints() == []


def test_host_now_is_drawn_and_follows_the_stream(browser):
    archive = sample()
    with page(browser, archive):
        browser.until("document.querySelectorAll('.cell .spark path.curve').length >= 10")
        assert "CPU busy" in browser.text()
        outside = browser.js("return [...document.querySelectorAll('.cell.outside .name')].map(n => n.textContent)")
        assert outside == ["Wait for a core, p99", "CPU pressure"]
        archive.live.values[-1, 0] = 0.77
        browser.until("document.querySelector('.cell b').textContent == '77 %'")


def test_a_report_shows_curves_evidence_culprit_and_what_to_do(browser):
    with page(browser, sample()):
        browser.until("document.querySelector('.incident a')")
        browser.click(".incident a")
        browser.until("document.querySelectorAll('.plot path.curve').length == 4")
        assert browser.js("return location.hash") == "#/incident/2026-11-21-0007"
        text = browser.text()
        for part in ("Who did it", "wanted 3.4 cores where its quota allows 2.0", "Threads waited 41.2 ms to run",
                     "91 %", "No stacks were sampled", "Raise the quota to 400 %", "risk low", "Ruled out",
                     "PSI memory stayed at 0.0 %", "restarted (main process 4711, was 3120)", "Timeline"):
            assert part in text, part
        codes = browser.js("return [...document.querySelectorAll('.command pre')].map(n => n.textContent)")
        assert codes[0] == "systemctl set-property --runtime billing-api.service CPUQuota=400%"
        assert browser.js("return document.querySelector('.change').textContent").startswith(
            "CPUQuota of billing-api.service 200% → 400%")
        browser.js("document.querySelector('details').open = true")
        for part in ("T1, with eBPF", "no NVIDIA driver", "qwen3:8b", "3112 + 418 tokens", "E7 is no evidence",
                     "0.4 % of one core, 131 MB"):
            assert part in browser.text(), part
        assert browser.complaints() == []


def test_curves_share_one_time_axis_with_onset_range_and_calm_value(browser):
    with page(browser, sample()) as server:
        browser.open(f"{server.address}/#/incident/2026-11-21-0007")
        browser.until("document.querySelectorAll('.plot svg[role=img]').length == 4")
        lines = "document.querySelectorAll('.plot line.onset:not(.own)')"
        marks = browser.js(f"return [...{lines}].map(l => l.getAttribute('x1'))")
        assert len(marks) == 4
        assert len(set(marks)) == 1
        assert browser.js("return document.querySelectorAll('.plot rect.usual').length") == 4
        assert browser.js("return document.querySelectorAll('.plot line.baseline').length") == 4
        assert browser.js("return document.querySelectorAll('.plot line.onset.own').length") >= 1
        spoken = browser.js("return document.querySelector('.plot svg[role=img]').getAttribute('aria-label')")
        assert spoken.startswith("Curve of E1: now 91 %, usual range 0.3")
        rise = browser.js("return document.querySelector('.plot path.curve').getBBox().height")
        assert rise > 30


def test_a_reference_leads_to_its_row_and_keeps_the_address(browser):
    with page(browser, sample()) as server:
        browser.open(f"{server.address}/#/incident/2026-11-21-0007")
        browser.until("document.querySelector('.lead a.ref')")
        browser.click(".lead a.ref")
        assert browser.js("return document.activeElement.id") == "E1"
        assert browser.js("return location.hash") == "#/incident/2026-11-21-0007"


def test_hostile_names_stay_text(browser):
    with page(browser, sample()) as server:
        browser.until("document.querySelectorAll('.incident').length == 2")
        assert "<img src=x onerror=" in browser.text()
        browser.open(f"{server.address}/#/incident/2026-11-20-0003")
        browser.until("document.querySelector('.who')")
        assert "<img src=x onerror=" in browser.js("return document.querySelector('.who b').textContent")
        assert browser.js("return document.querySelectorAll('img, script:not([src])').length") == 0
        assert "owned" not in browser.js("return document.title")
        assert browser.complaints() == []


def test_inline_scripts_cannot_run_even_if_one_got_in(browser):
    with page(browser, sample()):
        browser.until("document.querySelector('.incident')")
        browser.js("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1234\">')")
        browser.until("document.querySelector('img').complete")
        time.sleep(0.2)
        assert browser.js("return document.title") != "1234"
        assert any("Content Security Policy" in line for line in browser.complaints())


def quiet(**changes):
    return SampleArchive(sample(alerts_firing=0, **changes).live)


@pytest.mark.parametrize(("changes", "shown", "hidden"), [
    ({}, "Nothing is wrong", "blind"),
    ({"warming": True, "warm_ratio": 0.23}, "Still learning what is usual here", "Nothing is wrong"),
    ({"ready": False, "reasons": ("no frame for 12 s",)}, "etio is blind: no frame for 12 s", "Nothing is wrong"),
    ({"tier": "T2", "tier_reason": "not root; start it by systemd"}, "No eBPF: not root; start it by systemd", "blind"),
])
def test_an_empty_list_says_why_it_is_empty(browser, changes, shown, hidden):
    with page(browser, quiet(**changes)):
        browser.until("document.querySelector('.empty')")
        assert shown in browser.text()
        assert hidden not in browser.text()


def test_a_new_incident_and_its_report_appear_by_themselves(browser):
    archive = quiet()
    with page(browser, archive) as server:
        browser.until("document.querySelector('.empty')")
        time.sleep(1.2)
        now = archive.live.now_ns
        archive.incidents_kept.append(make_incident(now, report="running"))
        server.changed()
        browser.until("document.querySelector('.incident')?.innerText.includes('being explained')")
        archive.incidents_kept[0] = make_incident(now)
        archive.reports_kept.append(make_report(now))
        server.changed()
        browser.until("document.querySelector('.incident')?.innerText.includes('CONFIRMED')")


def test_a_lost_connection_is_told_and_comes_back(browser):
    archive = sample()
    with page(browser, archive) as server:
        browser.until("document.querySelector('.incident')")
        time.sleep(1.2)
        server.stop()
        browser.until("document.body.innerText.includes('No connection to etio since')")
        with serving(archive, port=server.port):
            browser.until("!document.body.innerText.includes('No connection to etio since')")


def test_the_token_is_asked_for_once(browser):
    with page(browser, sample(), token="s3cret") as server:
        browser.until("document.querySelector('#token')")
        assert "billing" not in browser.text()
        browser.js("document.querySelector('#token').value = 's3cret'; document.querySelector('form').requestSubmit()")
        browser.until("document.querySelectorAll('.incident').length == 2")
        browser.open(f"{server.address}/#/incident/2026-11-21-0007")
        browser.until("document.querySelectorAll('.plot path.curve').length == 4")
        browser.js("sessionStorage.clear()")


def test_an_unknown_incident_and_one_without_report(browser):
    archive = sample()
    archive.incidents_kept[0] = make_incident(archive.live.now_ns, report="failed")
    archive.reports_kept.pop(0)
    with page(browser, archive) as server:
        browser.open(f"{server.address}/#/incident/nothing")
        browser.until("document.body.innerText.includes(\"no incident 'nothing'\")")
        browser.open(f"{server.address}/#/incident/2026-11-21-0007")
        browser.until("document.body.innerText.includes('The explanation did not finish')")
        assert "CgroupCpuThrottled" in browser.text()


def test_it_fits_a_phone(browser):
    with page(browser, sample()) as server:
        browser.do("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": {
            "width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}})
        try:
            for address, ready in (("#/", ".incident"), ("#/incident/2026-11-20-0003", ".who"),
                                   ("#/incident/2026-11-21-0007", ".plot path.curve")):
                browser.open(f"{server.address}/{address}")
                browser.until(f"document.querySelector('{ready}')")
                assert browser.js("return document.documentElement.scrollWidth") <= 360, address
        finally:
            browser.do("POST", "/goog/cdp/execute", {"cmd": "Emulation.clearDeviceMetricsOverride", "params": {}})


def test_the_requests_of_the_first_view_are_answered_at_once(browser):
    with page(browser, sample()):
        browser.until("document.querySelector('.incident')")
        took = browser.js("return performance.getEntriesByType('resource').filter(e => e.name.includes('/api/'))"
                             ".filter(e => !e.name.includes('stream')).map(e => e.responseEnd - e.requestStart)")
        assert sorted(took)[len(took) // 2] < 100, took


def test_old_values_are_shown_as_old(browser):
    archive = sample(ready=False, reasons=("no frame for 60 s",))
    archive.live.running = False
    archive.live.changes["now_ns"] = archive.live.now_ns + 60_000_000_000
    with page(browser, archive):
        browser.until("document.querySelector('.cards.stale .cell')")
        assert "old: last seen" in browser.text()


def test_the_duration_of_a_firing_incident_goes_on(browser):
    with page(browser, sample()):
        first = browser.until("document.querySelector('[data-since]')?.textContent")
        browser.until(f"document.querySelector('[data-since]').textContent != {first!r}")
