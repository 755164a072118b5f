"""A headless Chromium, driven by chromedriver: W3C WebDriver, which is JSON over HTTP.

Both are Debian packages, chromium and chromium-driver.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

PATIENCE: Final = 60.0
_KEY: Final = "element-6066-11e4-a52e-4f735466cecf"  # what the protocol calls an element
_ARGUMENTS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def missing() -> str:
    """The programs that are not installed, for the reason of a skipped test; or nothing."""
    return ", ".join(p for p in ("chromium", "chromedriver") if shutil.which(p) is None)


class Browser:
    """One window."""

    def __init__(self, driver: httpx.Client, session: str) -> None:
        self._driver = driver
        self._session = session

    def open(self, url: str) -> None:
        """Go to a page."""
        self._post("url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function body returns in the page."""
        return self._post("execute/sync", script=script, args=list(arguments))

    def until(self, script: str, *arguments: Any) -> Any:
        """Ask the page again and again until it says something true; returns it."""
        deadline = time.monotonic() + PATIENCE
        while not (value := self.run(script, *arguments)):
            assert time.monotonic() < deadline, (
                f"{script}:\n{self.run('return document.body.innerText')}"
            )
            time.sleep(0.05)
        return value

    def find(self, selector: str) -> str:
        """The one element that a CSS selector finds."""
        found = self._post("elements", using="css selector", value=selector)
        assert len(found) == 1, f"{selector} finds {len(found)}"
        return str(found[0][_KEY])

    def click(self, selector: str) -> None:
        """Click on the one element that a CSS selector finds, as a user does."""
        self._post(f"element/{self.find(selector)}/click")

    def write(self, selector: str, text: str) -> None:
        """Clear a field and write into it, key by key."""
        element = self.find(selector)
        self._post(f"element/{element}/clear")
        self._post(f"element/{element}/value", text=text)

    def complaints(self) -> list[str]:
        """What the page's console says went wrong, and what it was kept from loading."""
        return [str(entry["message"]) for entry in self._post("se/log", type="browser")]

    def _post(self, path: str, **body: Any) -> Any:
        answer = self._driver.post(f"/session/{self._session}/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]


@contextmanager
def browser(directory: Path) -> Iterator[Browser]:
    """A browser of its own, with an empty profile below a directory."""
    log = directory / "chromedriver.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(["chromedriver", "--port=0"], stdout=stream, stderr=stream)
    try:
        port = _port(log, process)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as driver:
            options = {"args": [*_ARGUMENTS, f"--user-data-dir={directory / 'profile'}"]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            answer = driver.post("/session", json={"capabilities": {"alwaysMatch": wanted}})
            assert answer.status_code == 200, answer.text
            session = answer.json()["value"]["sessionId"]
            try:
                yield Browser(driver, session)
            finally:
                driver.delete(f"/session/{session}")
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"started successfully on port (\d+)", log.read_text(errors="replace"))
        if found:
            return int(found[1])
        time.sleep(0.05)
    raise AssertionError(f"chromedriver did not start:\n{log.read_text(errors='replace')}")
