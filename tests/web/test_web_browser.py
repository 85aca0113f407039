"""The web app in a real browser: Debian's Chromium, driven by selenium. Skipped where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from web_site import DARK_KNIGHT, NIGHT, RISES, WEB_APP, closed_port

selenium = pytest.importorskip("selenium", reason="no selenium: pip install selenium")

from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver import Chrome, ChromeOptions, ChromeService  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="no chromium and chromedriver: apt-get install chromium chromium-driver"
    ),
]
DESKTOP, PHONE = (1200, 900), (360, 740)


@pytest.fixture(scope="module")
def address_of(bundle_path: Path, out: Path) -> Iterator[Callable[..., str]]:
    """``address_of("--triton", "host:port")`` is the address of a running app with these options."""
    running: dict[tuple[str, ...], subprocess.Popen[str]] = {}
    ready: dict[tuple[str, ...], str] = {}

    def start(*options: str) -> str:
        if options not in running:
            command = [sys.executable, WEB_APP / "app.py", "--bundle", bundle_path, "--nightly", out, "--port", "0"]
            environment = {name: value for name, value in os.environ.items() if name != "TMDB_API_KEY"}
            process = subprocess.Popen(
                [*map(str, command), *options], stdout=subprocess.PIPE, text=True, env=environment
            )
            running[options] = process
            assert process.stdout is not None
            ready[options] = process.stdout.readline().removeprefix("ready: ").rstrip("/\n")
        assert ready[options].startswith("http://127.0.0.1:")
        return ready[options]

    yield start
    for process in running.values():
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    driver = Chrome(options=options, service=ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chrome: Chrome) -> Iterator[Chrome]:
    """A desktop's window; every page that a test opens must leave the console empty."""
    resize(chrome, DESKTOP)
    chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    chrome.get_log("browser")
    yield chrome
    problems = [
        entry for entry in chrome.get_log("browser") if "status of" not in entry["message"]
    ]  # an error page's own
    assert problems == []


def resize(driver: Chrome, size: tuple[int, int]) -> None:
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def wait(driver: Chrome, until: Callable[[Chrome], object]) -> None:
    WebDriverWait(driver, 20, 0.05, [StaleElementReferenceException]).until(until)  # stale: the next page came


def options_of(driver: Chrome) -> list[str]:
    return [one.text.split("\n")[0] for one in driver.find_elements(By.CSS_SELECTOR, "[role=option]")]


def heading(driver: Chrome) -> str:
    return driver.find_element(By.TAG_NAME, "h1").text


def type_and_wait(driver: Chrome, text: str, expected: str) -> None:
    driver.find_element(By.ID, "q").send_keys(text)
    wait(driver, lambda found: expected in options_of(found))


def test_a_title_is_found_by_keyboard_alone(browser, address_of):
    browser.get(address_of())
    assert browser.switch_to.active_element.get_attribute("id") == "q"
    type_and_wait(browser, "dark knight", RISES)
    field = browser.find_element(By.ID, "q")
    assert (field.get_attribute("role"), field.get_attribute("aria-expanded")) == ("combobox", "true")
    field.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_UP)
    active = browser.find_element(By.CSS_SELECTOR, "[aria-selected=true]")
    assert active.get_attribute("id") == field.get_attribute("aria-activedescendant")
    assert active.text.startswith(DARK_KNIGHT)
    field.send_keys(Keys.ESCAPE)
    assert field.get_attribute("aria-expanded") == "false"
    assert not browser.find_element(By.CSS_SELECTOR, "[role=listbox]").is_displayed()
    assert field.get_attribute("value") == "dark knight"
    field.send_keys(" ris")
    wait(browser, lambda driver: options_of(driver)[:1] == [RISES])
    field.send_keys(Keys.ARROW_DOWN, Keys.ENTER)
    wait(browser, lambda driver: heading(driver) == RISES)
    assert "director Christopher Nolan" in browser.find_element(By.TAG_NAME, "main").text
    assert browser.find_element(By.CSS_SELECTOR, "svg.likeness rect").is_displayed()


def test_a_suggestion_is_chosen_with_the_mouse(browser, address_of):
    browser.get(address_of())
    type_and_wait(browser, "dark knight", RISES)
    next(one for one in browser.find_elements(By.CSS_SELECTOR, "[role=option]") if RISES in one.text).click()
    wait(browser, lambda driver: heading(driver) == RISES)


def test_enter_without_a_choice_searches(browser, address_of):
    browser.get(address_of())
    browser.find_element(By.ID, "q").send_keys("dark knigt", Keys.ENTER)
    wait(browser, lambda driver: "?q=dark+knigt" in driver.current_url)
    assert DARK_KNIGHT in browser.find_element(By.TAG_NAME, "main").text


def test_a_title_as_html_stays_text(browser, address_of):
    browser.get(address_of())
    browser.find_element(By.ID, "q").send_keys("<img src=x onerror=document.title='broken'>", Keys.ENTER)
    wait(browser, lambda driver: "?q=" in driver.current_url)
    assert browser.find_elements(By.TAG_NAME, "img") == []
    assert "broken" not in browser.title.replace("document.title='broken'", "")


def test_a_users_list_with_reasons(browser, address_of):
    browser.get(address_of() + "/users")
    browser.find_element(By.ID, "user").send_keys("5", Keys.ENTER)
    wait(browser, lambda driver: heading(driver) == "For user 5")
    assert len(browser.find_elements(By.CSS_SELECTOR, ".listing li")) == 20
    get, reason, had = (
        browser.find_element(By.CSS_SELECTOR, f".listing {part}") for part in (".listed", ".reason", ".because a")
    )
    assert get.location["x"] < reason.location["x"] < had.location["x"]
    middles = [one.location["y"] + one.size["height"] / 2 for one in (get, reason, had)]
    assert max(middles) - min(middles) < 15
    assert reason.text
    resize(browser, PHONE)
    assert get.location["y"] < reason.location["y"] < had.location["y"]


def test_dials_are_turned_by_keyboard_and_undone(browser, address_of):
    browser.get(address_of() + "/users/5")
    before = browser.find_element(By.CSS_SELECTOR, ".listing").text
    browser.find_element(By.ID, "variety").send_keys(Keys.END, Keys.ENTER)
    wait(browser, lambda driver: "variety=2" in driver.current_url)
    assert browser.find_element(By.ID, "variety").get_attribute("value") == "2"
    assert "What it takes out" in browser.find_element(By.TAG_NAME, "main").text
    browser.find_element(By.LINK_TEXT, "As it is").click()
    wait(browser, lambda driver: driver.find_element(By.CSS_SELECTOR, ".listing").text == before)


def test_a_link_is_copied(browser, address_of):
    address = address_of() + "/users/5?variety=1"
    for permission in ("clipboard-read", "clipboard-write"):
        grant = {"permission": {"name": permission}, "setting": "granted", "origin": address_of()}
        browser.execute_cdp_cmd("Browser.setPermission", grant)
    browser.get(address)
    browser.find_element(By.CSS_SELECTOR, ".share").click()
    wait(browser, lambda driver: driver.find_element(By.CSS_SELECTOR, ".share").text == "The link is copied")
    assert browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])") == address


def test_a_picture_that_is_lost_leaves_the_tile(browser, address_of):
    browser.get(address_of() + "/titles/5")
    initials = browser.find_element(By.CSS_SELECTOR, ".tile").text
    for picture, shown in (("/static/icon.svg", 1), ("/static/none.png", 0)):
        browser.execute_script(
            "const [image, again] = ['img', 'script'].map(kind => document.createElement(kind));"
            "document.querySelectorAll('.tile img').forEach(one => one.remove()); image.src = arguments[0];"
            "document.querySelector('.tile').append(image); again.src = '/static/app.js'; document.head.append(again);"
            "window.loaded = new Promise(done => image.onload = image.onerror = done)",
            picture,
        )
        browser.execute_async_script("loaded.then(() => arguments[0](true))")
        wait(browser, lambda driver, n=shown: len(driver.find_elements(By.CSS_SELECTOR, ".tile img")) == n)
    assert browser.find_element(By.CSS_SELECTOR, ".tile").text == initials != ""


def test_a_visitor_gathers_titles_and_shares_the_list(browser, address_of):
    browser.get(address_of() + "/visitor")
    browser.find_element(By.CSS_SELECTOR, ".ticks label").click()
    type_and_wait(browser, "dark knight r", RISES)
    browser.find_element(By.ID, "q").send_keys(Keys.ARROW_DOWN, Keys.ENTER)
    wait(browser, lambda driver: driver.current_url.count("like=") == 2)
    chosen = [one.text for one in browser.find_elements(By.CSS_SELECTOR, "fieldset:first-of-type label")]
    assert RISES in chosen
    shared, listed = browser.current_url, browser.find_element(By.CSS_SELECTOR, ".listing").text
    assert "liked" in listed
    browser.delete_all_cookies()
    browser.get(shared)
    assert browser.find_element(By.CSS_SELECTOR, ".listing").text == listed
    assert browser.get_cookies() == []


def test_everything_works_without_scripts(browser, address_of):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(address_of())
    browser.find_element(By.ID, "q").send_keys("dark knight rises", Keys.ENTER)
    browser.find_element(By.LINK_TEXT, RISES).click()
    assert heading(browser) == RISES
    browser.find_element(By.PARTIAL_LINK_TEXT, "I like it").click()
    assert len(browser.find_elements(By.CSS_SELECTOR, ".listing li")) == 20
    assert browser.find_elements(By.CSS_SELECTOR, "[role=listbox]") == []


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/titles/999999", "There is no title"),
        ("/users/99999", "There is no user"),
        ("/nights/2020-01-01", "There is no night"),
        ("/nothing", "There is no such page"),
        ("/visitor?like=x", "This request is not right"),
    ],
)
def test_error_pages(browser, address_of, path, says):
    browser.get(address_of() + path)
    assert says in heading(browser)


def test_a_server_that_is_down(browser, address_of):
    browser.get(address_of("--triton", closed_port()) + "/users/5")
    assert "The live server is down" in browser.find_element(By.CSS_SELECTOR, "[role=alert]").text


def test_the_skip_link_leads_past_the_navigation(browser, address_of):
    browser.get(address_of() + "/nights")
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    skip = browser.switch_to.active_element
    assert skip.text == "Skip to the content"
    skip.send_keys(Keys.ENTER)
    wait(browser, lambda driver: driver.switch_to.active_element.get_attribute("id") == "main")


PAGES = [
    "/",
    "/?q=dark",
    "/titles/5",
    "/users",
    "/users/5",
    "/users/5?variety=1",
    f"/changes?user=5&before={NIGHT}",
    "/visitor?like=5",
    "/nights",
    f"/nights/{NIGHT}",
]


@pytest.mark.parametrize("path", PAGES)
def test_a_phone_need_not_scroll_sideways_and_fingers_hit(browser, address_of, path):
    resize(browser, PHONE)
    browser.get(address_of() + path)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
    for one in browser.find_elements(
        By.CSS_SELECTOR, "button, .button, nav a, input[type=search], input[type=range], select, .ticks label, .chips a"
    ):
        assert one.size["height"] >= 44, one.text


CONTRAST = """
const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, at) => sum + v * [.2126, .7152, .0722][at], 0);
const rgb = text => text.match(/[\\d.]+/g).map(Number);
function behind(e) { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
  if (c.length < 4 || c[3] > .99) return c; } return [255, 255, 255]; }
const found = [];
for (const e of document.querySelectorAll("body *:not(svg *)")) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility()) continue;
  const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))];
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) found.push(`${e.tagName} ${e.className} ${e.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
}
return found;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(browser, address_of, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        for path in PAGES:
            browser.get(address_of() + path)
            assert browser.execute_script(CONTRAST) == [], path
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
