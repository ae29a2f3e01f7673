"""Pages in a real browser: they look after themselves, without a script or a sheet of anybody else's."""

import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.serving import Server

BROWSER = shutil.which("chromium")
BROWSER_SECONDS_MAX = 60


def rendered(url: str, profile: Path, *options: str) -> str:
    """The document as the browser has made it of the page."""
    if BROWSER is None:
        pytest.skip("no chromium here: apt-get install chromium")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *options]
    done = subprocess.run(
        [*command, "--dump-dom", url], capture_output=True, encoding="utf-8", timeout=BROWSER_SECONDS_MAX, check=True
    )
    assert "Content Security Policy" not in done.stderr, done.stderr
    return done.stdout


def test_the_dictionary_tells_of_every_view_and_column_that_sql_can_query(
    shared_server: Server, tmp_path: Path
) -> None:
    page = rendered(f"{shared_server.url}/dictionary", tmp_path, "--enable-logging=stderr")
    answer = httpx.get(f"{shared_server.url}/api/dictionary", headers={"authorization": f"Bearer {shared_server.key}"})
    views = answer.json()["views"]
    assert {view["name"] for view in views} >= {"calendar_events", "webhook_logs", "booking_statistics", "sync_lag"}
    assert re.findall(r'<section id="(\w+)">', page) == [view["name"] for view in views]
    told = re.findall(r'<th scope="row"><code>(\w+)</code></th>', page)
    assert told == [column["name"] for view in views for column in view["columns"]]


def test_the_dictionary_asks_nothing_of_anybody_else(shared_server: Server) -> None:
    page = httpx.get(f"{shared_server.url}/dictionary")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert re.findall(r'(?:src|href)="([^"#]+)"', page.text) == ["/static/ledger.css"]
    style = httpx.get(f"{shared_server.url}/static/ledger.css")
    assert style.headers["content-type"] == "text/css; charset=utf-8"
    assert "url(" not in style.text
    assert "@import" not in style.text
