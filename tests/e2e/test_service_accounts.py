"""A real browser: the page of a one-time link, and a session in cookies on a plain-http address of
this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from tests.service.running import Running

EMAIL = "ada@example.org"
OLD, NEW = "a long word that nobody guesses 7", "another long password 8"

pytestmark = pytest.mark.needs("chromium")

ASK = """async ([method, path, body, token]) => {
  const headers = { "Content-Type": "application/json" };
  if (token) headers["X-CSRF-Token"] = token;
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  return [answer.status, answer.status === 204 ? null : await answer.json()];
}"""


def ask(
    page: Page, method: str, path: str, body: Any = None, token: str | None = None
) -> tuple[int, Any]:
    status, answer = page.evaluate(ASK, [method, path, body, token])
    return int(status), answer


def shell(data: Path, *words: str) -> str:
    """`telecine admin`, with a password on its standard input where it asks for one."""
    done = subprocess.run(
        [sys.executable, "-m", "telecine", "admin", "--data", str(data), *words],
        input=f"{OLD}\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.strip()


def test_a_forgotten_password_and_a_session_in_cookies(browser: Browser, tmp_path: Path) -> None:
    with Running(tmp_path / "data") as service:
        shell(service.data, "create", EMAIL)
        token = shell(service.data, "reset-password", EMAIL).rpartition("#")[2]
        page = browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        said: list[tuple[str, str]] = []
        page.on("console", lambda line: said.append((line.type, line.text)))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))

        page.goto(f"{service.base_url}/password-reset#{token}")
        assert page.url == f"{service.base_url}/password-reset"  # not in the history either
        page.fill("#password", NEW)
        page.click("button")
        page.get_by_text("Done").wait_for()
        assert problems == []
        assert not any(kind == "error" for kind, _ in said), said
        assert not any(token in url.partition("#")[0] for url in asked)

        status, opened = ask(
            page, "POST", "/v1/sessions", {"email": EMAIL, "password": NEW, "cookies": True}
        )
        assert status == 201
        assert opened["access_token"] is None
        # Chromium took the Secure cookies of a loopback address, and scripts see one of them.
        kept = {cookie["name"]: cookie for cookie in page.context.cookies()}
        assert set(kept) == {f"__Host-telecine_{kind}" for kind in ("access", "refresh", "csrf")}
        assert all(cookie["secure"] for cookie in kept.values())
        seen = page.evaluate("document.cookie")
        assert seen == f"__Host-telecine_csrf={opened['csrf_token']}"

        assert ask(page, "GET", "/v1/users/me")[1]["email"] == EMAIL
        assert ask(page, "PATCH", "/v1/users/me", {"name": "Ada"})[0] == 403
        csrf = opened["csrf_token"]
        assert ask(page, "PATCH", "/v1/users/me", {"name": "Ada"}, csrf)[0] == 200
        assert ask(page, "POST", "/v1/sessions/refresh", None, csrf)[0] == 200
        assert ask(page, "DELETE", "/v1/sessions/current", None, csrf)[0] == 204
        assert ask(page, "GET", "/v1/users/me")[0] == 401
        assert page.context.cookies() == []
        page.close()
