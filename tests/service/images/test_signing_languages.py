"""The programs of docs/howto/image-urls.md, run by the interpreters that they are written for: each
prints a URL that a real service answers with the picture."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
import pytest
from tests.conftest import ROOT
from tests.service.pictures import encoded, opened, quarters
from tests.service.running import Running

from telecine.client import ApiError, Client, ImageUrls

PAGE = ROOT / "docs" / "howto" / "image-urls.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)

LANGUAGES = {
    "python": [sys.executable, "-"],
    "js": ["node", "-"],
    "php": ["php"],
    "ruby": ["ruby", "-"],
    "sh": ["sh", "-s"],
}


def programs() -> dict[str, str]:
    """By language; of several blocks of one, the last is the program."""
    return {name: text for name, text in BLOCK.findall(PAGE.read_text()) if name in LANGUAGES}


@dataclass(frozen=True)
class World:
    """A service with a picture, and a key that signs its URLs."""

    client: Client
    key_id: str
    secret: str
    asset_id: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("signing")
    picture = folder / "quarters.png"
    picture.write_bytes(encoded(quarters(800, 800), "PNG"))
    with Running(folder / "data") as service, Client(service.base_url) as client:
        client.sign_up("ada@example.org", "a long word that nobody guesses 7")
        client.log_in("ada@example.org", "a long word that nobody guesses 7")
        made = client.create_image_key("pages")
        asset_id = client.upload(picture).asset_id
        assert asset_id is not None
        yield World(client, made.key.id, made.secret, asset_id)


def run(world: World, language: str, expires_at: str) -> str:
    done = subprocess.run(
        LANGUAGES[language],
        input=programs()[language],
        env={
            **os.environ,
            "TELECINE_URL": world.client.url,
            "IMAGE_KEY_ID": world.key_id,
            "IMAGE_KEY_SECRET": world.secret,
            "ASSET_ID": world.asset_id,
            "EXPIRES_AT": expires_at,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def check(world: World, language: str) -> None:
    end = int(time.time()) + 600
    url = run(world, language, str(end))
    answer = httpx2.get(url)
    assert answer.status_code == 200, answer.text
    picture = opened(answer.content)
    assert (picture.format, picture.size) == ("WEBP", (400, 300))
    urls = ImageUrls(world.client.url, world.key_id, world.secret)
    ops = "resize:w=400,h=300,fit=cover"
    assert url == urls.sign(world.asset_id, ops, format="webp", expires_at=end)
    altered = httpx2.get(url.replace("w=400", "w=401"))
    assert (altered.status_code, altered.json()["code"]) == (403, "signature_invalid")


def test_the_page_shows_five_languages() -> None:
    assert set(programs()) == set(LANGUAGES)


def test_python(world: World) -> None:
    check(world, "python")


@pytest.mark.needs("node")
def test_javascript(world: World) -> None:
    check(world, "js")


@pytest.mark.needs("php")
def test_php(world: World) -> None:
    check(world, "php")


@pytest.mark.needs("ruby")
def test_ruby(world: World) -> None:
    check(world, "ruby")


@pytest.mark.needs("sh", "openssl")
def test_shell(world: World) -> None:
    check(world, "sh")


def test_the_client_manages_keys_and_signs_without_asking(world: World) -> None:
    made = world.client.create_image_key("another")
    assert [key.id for key in world.client.image_keys()] == [made.key.id, world.key_id]
    urls = ImageUrls(world.client.url, made.key.id, made.secret)
    plain = urls.sign(world.asset_id)
    assert opened(httpx2.get(plain, headers={"Accept": "image/avif"}).content).format == "AVIF"
    text = urls.sign(world.asset_id, "watermark:text=!C3!A9t!C3!A9+", format="png")
    assert httpx2.get(text).json()["code"] == "ops_not_canonical"  # signed, whatever it holds
    world.client.revoke_image_key(made.key.id)
    time.sleep(1)
    assert httpx2.get(plain).status_code == 403
    with pytest.raises(ApiError) as unknown:
        world.client.revoke_image_key("01KAJ9XK6B2T3W4Y5Z6A7B8C9D")
    assert unknown.value.code == "image_key_unknown"
    with pytest.raises(ValueError, match="address"):
        ImageUrls("media.example", made.key.id, made.secret)
