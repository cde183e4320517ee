"""A page as a browser shows it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
CONSOLE = re.compile(r"CONSOLE[:(].*")
CHECK = """<script>addEventListener("load", () => {
  const broken = [...document.images].filter(image => !image.naturalWidth);
  document.documentElement.dataset.broken = broken.map(i => i.getAttribute("src")).join(" ");
})</script>"""
"""What a copy of the page tells of itself."""


@dataclass(frozen=True)
class Shown:
    """What became of a page.

    Attributes:
        elements: number of elements by tag, after scripts have run.
        console: what was written to the console, such as errors of scripts.
        broken: sources of the pictures that could not be shown.
    """

    elements: dict[str, int]
    console: list[str]
    broken: list[str]


class _Counter(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: dict[str, int] = {}
        self.broken: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] = self.elements.get(tag, 0) + 1
        if tag == "html":
            self.broken = (dict(attrs)["data-broken"] or "").split()


def show(page: Path, profile: Path) -> Shown:
    """Load a page from disk, without a network; the test is skipped where there is no browser."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0"]
    copy = page.with_name("checked.html")
    copy.write_text(page.read_text() + CHECK)
    try:
        done = subprocess.run(
            [*command, "--dump-dom", copy.as_uri()], capture_output=True, text=True, timeout=300
        )
    finally:
        copy.unlink()
    assert done.returncode == 0, done.stderr
    counter = _Counter()
    counter.feed(done.stdout)
    return Shown(counter.elements, CONSOLE.findall(done.stderr), counter.broken)
