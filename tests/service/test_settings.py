"""Settings: from the environment and the command line, checked, and all of them documented."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from telecine.cli import parser
from telecine.engine.errors import UsageError
from telecine.service.settings import Settings, environment_of, read_settings

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
ROW = re.compile(r"^\| `(TELECINE_\w+)` \| (?:`(--[\w-]+)`)? ?\| (?:`([^`]*)`)? ?\| (.+) \|$", re.M)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TELECINE_{name.upper()}", raising=False)


def test_the_page_names_every_setting_with_its_default_and_no_other() -> None:
    rows = ROW.findall(PAGE.read_text())
    assert len(rows) == PAGE.read_text().count("\n| `")
    documented = {name: default for name, _, default, _ in rows}
    defaults = {
        f"TELECINE_{name.upper()}": "" if field.default in (None, ()) else str(field.default)
        for name, field in Settings.model_fields.items()
    }
    assert documented == defaults


def test_the_page_names_the_options_of_serve() -> None:
    options = {option for _, option, _, _ in ROW.findall(PAGE.read_text())} - {""}
    (action,) = [a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)]
    serve = action.choices["serve"]
    there = {word for one in serve._actions for word in one.option_strings} - {"-h", "--help"}
    assert options == there
    for _, option, _, _ in ROW.findall(PAGE.read_text()):
        name = option.removeprefix("--").replace("-", "_")
        assert name == "" or name in Settings.model_fields


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_environment_is_read_and_the_command_line_wins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TELECINE_PORT", "9001")
    monkeypatch.setenv("TELECINE_SIGNUP", "closed")
    monkeypatch.setenv("TELECINE_CORS_ORIGINS", "https://a.example, https://b.example:8443")
    found = read_settings(port=None, signup="open")
    assert (found.port, found.signup) == (9001, "open")
    assert found.cors_origins == ("https://a.example", "https://b.example:8443")


def test_another_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given = read_settings(
        data=Path("/srv/media é"),
        database="postgresql://u:p%40ss@h/d",
        cors_origins=("https://a.example", "https://b.example"),
        workers=0,
        log_json=False,
    )
    for name, value in environment_of(given).items():
        monkeypatch.setenv(name, value)
    assert read_settings() == given


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"port": 65536}, "port"),
        ({"workers": -1}, "workers"),
        ({"signup": "maybe"}, "signup"),
        ({"tls_cert": "c.pem"}, "tls_key"),
        ({"tls_key": "k.pem"}, "tls_cert"),
        ({"cors_origins": ("*",)}, "cors_origins"),
        ({"cors_origins": ("null",)}, "cors_origins"),
        ({"cors_origins": ("https://a.example/path",)}, "cors_origins"),
        ({"public_url": "media.example"}, "public_url"),
        ({"public_url": "https://media.example/sub"}, "public_url"),
        ({"max_upload_bytes": 0}, "max_upload_bytes"),
        ({"no_such": 1}, "no_such"),
    ],
)
def test_what_is_wrong_is_said(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        read_settings(**wrong)
    assert refused.value.code == "setting_invalid"


@pytest.mark.parametrize(
    ("given", "url", "secure"),
    [
        ({}, "http://127.0.0.1:8000", False),
        ({"host": "::1", "port": 9000}, "http://[::1]:9000", False),
        ({"tls_cert": "c", "tls_key": "k"}, "https://127.0.0.1:8000", True),
        ({"public_url": "https://media.example/"}, "https://media.example", True),
    ],
)
def test_the_address_that_links_begin_with(
    given: dict[str, object], url: str, secure: bool
) -> None:
    found = read_settings(**given)
    assert (found.base_url, found.secure) == (url, secure)
