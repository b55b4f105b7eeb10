"""A real browser for the tests of the page: Chromium without a screen, driven by Selenium; one for a whole module."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webelement import WebElement

from tests.live.processes import wait_until

SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-default-apps",
    "--enable-precise-memory-info",
)
"""It asks nobody for updates or anything else: what it sends is what the page sends."""

PATIENCE_S = 15


class Browser:
    """A Chromium; made by `running_browser`. driver: Selenium's, for what is not here."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.order("Page.enable")
        self.order("Network.enable")
        self.order("Performance.enable")

    def order(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Have it do a command of the DevTools protocol."""
        return dict(self.driver.execute_cdp_cmd(command, arguments) or {})

    def open(self, url: str) -> None:
        """Open an address anew, also when only what is behind its # is another."""
        self.driver.get("about:blank")
        self.driver.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page, as a function's body."""
        return self.driver.execute_script(script, *arguments)

    def await_script(self, script: str, *arguments: Any) -> Any:
        """Run the body of an async function in the page, and wait for what it returns."""
        body = f"(async (...args) => {{ {script} }})(...arguments)"
        return self.driver.execute_async_script(
            f"const done = [...arguments].pop(); {body}.then(done, (e) => done(e.stack));", *arguments
        )

    def find(self, selector: str) -> WebElement:
        """The first element of a selector; waits until it is there."""
        return wait_until(lambda: next(iter(self.driver.find_elements("css selector", selector)), None), PATIENCE_S, selector)

    def text(self, selector: str) -> str:
        """What an element says, whether it can be seen or not; "" while it is not there."""
        return str(self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def sees(self, selector: str) -> bool:
        """Whether an element is there and takes up room."""
        return bool(self.run("return document.querySelector(arguments[0])?.getClientRects().length > 0", selector))

    def wait_text(self, selector: str, words: str) -> None:
        """Wait until an element says this."""
        wait_until(
            lambda: words in self.text(selector), PATIENCE_S, f"{words!r} in {selector}, which says {self.text(selector)!r}"
        )

    def press(self, keys: str, times: int = 1) -> None:
        """Press keys where the focus is."""
        for _ in range(times):
            self.driver.switch_to.active_element.send_keys(keys)

    def focused(self) -> str:
        """What the element with the focus says."""
        return str(self.run("return document.activeElement.textContent"))

    def rows(self, table: str = "#backends") -> list[dict[str, str]]:
        """The rows of a table as they are shown: texts by the heads of their columns."""
        script = """
            const heads = [...document.querySelectorAll(`${arguments[0]} thead th`)].map((one) => one.textContent);
            return [...document.querySelectorAll(`${arguments[0]} tbody tr`)].map((row) =>
                Object.fromEntries([...row.cells].map((cell, index) => [heads[index], cell.textContent])));
        """
        return list(self.run(script, table))

    def complaints(self) -> list[str]:
        """What it has said in its console since this was last asked: errors, refused requests, breaches of the policy."""
        return [one["message"] for one in self.driver.get_log("browser") if one["level"] in ("SEVERE", "WARNING")]

    def requests(self) -> list[str]:
        """The addresses that have been asked for since this was last asked."""
        found = []
        for entry in self.driver.get_log("performance"):
            message: Mapping[str, Any] = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(str(message["params"]["request"]["url"]))
        return found

    def figures(self) -> dict[str, float]:
        """What the page takes up, after all garbage is collected: JSHeapUsedSize, Nodes, JSEventListeners, and others."""
        self.order("HeapProfiler.enable")
        self.order("HeapProfiler.collectGarbage")
        return {one["name"]: one["value"] for one in self.order("Performance.getMetrics")["metrics"]}

    def speak(self, *languages: str) -> None:
        """Have it ask for these languages from the next page on."""
        agent = self.run("return navigator.userAgent")
        self.order("Network.setUserAgentOverride", userAgent=agent, acceptLanguage=",".join(languages))

    def without_scripts(self, off: bool) -> None:
        """Turn JavaScript off, or on again."""
        self.order("Emulation.setScriptExecutionDisabled", value=off)

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Give the page another size."""
        self.order(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone
        )

    def colours(self, scheme: str) -> None:
        """Prefer `light` or `dark`."""
        self.order("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


@contextlib.contextmanager
def running_browser(directory: Path, *languages: str, trusts_all: bool = False) -> Iterator[Browser]:
    """Start a browser with an empty profile; it ends with the test. trusts_all: whoever signed a certificate."""
    options = webdriver.ChromeOptions()
    options.accept_insecure_certs = trusts_all
    options.binary_location = "/usr/bin/chromium"
    for switch in (*SWITCHES, f"--user-data-dir={directory}", f"--accept-lang={','.join(languages or ('en-US',))}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        driver.set_script_timeout(60)
        driver.set_page_load_timeout(60)
        yield Browser(driver)
    finally:
        driver.quit()
