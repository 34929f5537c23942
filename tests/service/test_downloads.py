"""Downloads by signed links: who may, which bytes, under which name."""

from __future__ import annotations

import hashlib
import os
import re
import time
from email.message import Message
from email.policy import HTTP
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from tests.service.films import Film, add_film, run_to_end
from tests.service.owners import Owner, owner_of

from telecine.service.db.tables import assets
from telecine.service.downloads import disposition, output_name, source_name
from telecine.service.services import Services

DATA = os.urandom(3_000_000)  # three pieces of the storage
SIZE = len(DATA)


@pytest.fixture
def ada(client: TestClient) -> Owner:
    return owner_of(client)


@pytest.fixture
def job_id(ada: Owner, services: Services, film: Film) -> str:
    asset_id = add_film(services, ada.user_id, film, title='Ärger: "die" Katze/../Hund')
    made = str(ada.submit(asset_id, outputs=[{"type": "mp4", "size": "240p"}])["id"])
    run_to_end(services, made, {"240p.mp4": DATA, "poster.jpg": b"\xff\xd8"})
    return made


@pytest.fixture
def url(ada: Owner, job_id: str) -> str:
    return str(ada.get(f"/v1/jobs/{job_id}/outputs")["data"][0]["url"])


def name_in(header: str) -> tuple[str | None, str | None]:
    """The plain and the whole file name of a Content-Disposition, read by Python's mail parser."""
    message = Message(policy=HTTP)
    message["Content-Disposition"] = header
    plain = re.search(r'filename="([^"]*)"', header)
    whole = re.search(r"filename\*=UTF-8''([^;]*)", header)
    assert message.get_content_disposition() == "attachment"
    return plain and plain[1], whole and unquote(whole[1])


# --- outputs --------------------------------------------------------------------------------------


def test_outputs_have_size_digest_facts_and_a_link(
    ada: Owner, client: TestClient, job_id: str, services: Services
) -> None:
    page = ada.get(f"/v1/jobs/{job_id}/outputs")
    assert [(one["path"], one["kind"]) for one in page["data"]] == [
        ("240p.mp4", "mp4"),
        ("poster.jpg", "poster"),
    ]
    film = page["data"][0]
    assert (film["size_bytes"], film["facts"]) == (SIZE, {"width": 640})
    assert film["sha256"] == hashlib.sha256(DATA).hexdigest()
    assert film["url"].startswith(services.settings.base_url + "/d/")
    # The link is all that it takes: no log-in goes along.
    assert client.get(film["url"]).content == DATA


def test_outputs_come_in_pages(ada: Owner, job_id: str) -> None:
    first = ada.get(f"/v1/jobs/{job_id}/outputs", params={"limit": 1})
    assert ([one["path"] for one in first["data"]], first["has_more"]) == (["240p.mp4"], True)
    after = {"limit": 1, "after": first["next_cursor"]}
    second = ada.get(f"/v1/jobs/{job_id}/outputs", params=after)
    assert ([one["path"] for one in second["data"]], second["has_more"]) == (["poster.jpg"], False)


def test_no_outputs_before_the_job_has_succeeded(
    ada: Owner, services: Services, film: Film
) -> None:
    queued = ada.submit(add_film(services, ada.user_id, film))["id"]
    assert ada.get(f"/v1/jobs/{queued}/outputs")["data"] == []


# --- links ----------------------------------------------------------------------------------------


def test_a_link_that_was_altered_is_none(client: TestClient, url: str) -> None:
    _, _, signature, output_id, name = urlsplit(url).path.split("/")
    expiry, _, mac = signature.partition(".")
    for forged in (
        f"{int(expiry) + 1}.{mac}",
        f"{expiry}.{mac[:-1]}{'A' if mac[-1] != 'A' else 'B'}",
        f"{expiry}.",
        expiry,
        "x",
        f"+{expiry}.{mac}",
        f"{expiry}.{mac}=",
    ):
        answer = client.get(f"/d/{forged}/{output_id}/{name}")
        assert (forged, answer.status_code) == (forged, 403)
        assert answer.json()["code"] == "link_invalid"
    # For one file, not for another, and not for a source.
    other = output_id[:-1] + ("0" if output_id[-1] != "0" else "1")
    assert client.get(f"/d/{signature}/{other}/{name}").status_code == 403
    assert client.get(f"/d/{signature}/source/{output_id}/{name}").status_code == 403
    # The name is for people.
    assert client.get(f"/d/{signature}/{output_id}/other.txt").status_code == 200


def test_a_link_expires(ada: Owner, client: TestClient, services: Services, job_id: str) -> None:
    shown = ada.get(f"/v1/jobs/{job_id}/outputs")["data"][0]
    _, _, signature, output_id, name = urlsplit(shown["url"]).path.split("/")
    with services.database.read() as tx:
        now_s = tx.now_s()
    expiry = int(signature.partition(".")[0])
    assert expiry - now_s == pytest.approx(services.settings.link_ttl_s, abs=60)
    past = services.signer.sign("download", f"output:{output_id}", int(now_s) - 1)
    assert client.get(f"/d/{past}/{output_id}/{name}").json()["code"] == "link_invalid"
    other = services.signer.sign("playback", f"output:{output_id}", expiry)
    assert client.get(f"/d/{other}/{output_id}/{name}").status_code == 403


def test_a_link_to_what_is_gone_is_404(
    ada: Owner, client: TestClient, services: Services, url: str
) -> None:
    for key in list(services.storage.keys("tasks/")):
        services.storage.delete(key)
    assert client.get(url).json()["code"] == "file_unknown"
    asset_id = ada.get("/v1/assets")["data"][0]["id"]
    ada.ask("DELETE", f"/v1/assets/{asset_id}", 204)
    assert client.get(url).json()["code"] == "file_unknown"


def test_the_source_comes_back_as_it_was(
    ada: Owner, client: TestClient, services: Services, film: Film
) -> None:
    asset_id = add_film(services, ada.user_id, film, title="Mein Film")
    found = ada.get(f"/v1/assets/{asset_id}/source")
    assert found["size_bytes"] == film.path.stat().st_size
    answer = client.get(found["url"])
    assert answer.content == film.path.read_bytes()
    assert name_in(answer.headers["content-disposition"]) == ("Mein Film.mp4", "Mein Film.mp4")
    with services.database.write() as tx:
        tx.connection.execute(sa.update(assets).values(source_key=None))
    assert ada.get(f"/v1/assets/{asset_id}/source", 409)["code"] == "source_gone"
    assert client.get(found["url"]).json()["code"] == "file_unknown"


# --- bytes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, SIZE),
        ("bytes=1048575-1048576", 1_048_575, 1_048_577),  # over the border of two pieces
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        (f"bytes={SIZE - 1}-{SIZE + 99}", SIZE - 1, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        ("bytes=-1000000", SIZE - 1_000_000, SIZE),
        (f"bytes=-{SIZE + 1}", 0, SIZE),
        ("bytes=5-6", 5, 7),
    ],
)
def test_one_range_is_served(
    client: TestClient, url: str, asked: str, start: int, end: int
) -> None:
    answer = client.get(url, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == DATA[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(end - start)


def test_a_range_behind_the_end_cannot_be_served(client: TestClient, url: str) -> None:
    for asked in (f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=-0"):
        answer = client.get(url, headers={"Range": asked})
        assert (asked, answer.status_code) == (asked, 416)
        assert answer.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=5-4",
        "bytes=a-b",
        "bytes=",
        "bytes=-",
        "lines=0-5",
        "bytes=0-5, 7-9",
        "bytes=" + ",".join(["0-0"] * 1000),
        "bytes=" + "9" * 50 + "-",
    ],
)
def test_what_is_no_single_range_gets_the_whole(client: TestClient, url: str, asked: str) -> None:
    """Many ranges cost no more than none: they are not looked at (RFC 9110, 14.2)."""
    answer = client.get(url, headers={"Range": asked})
    assert answer.status_code == 200
    assert answer.content == DATA
    assert "multipart" not in answer.headers["content-type"]


def test_validators(client: TestClient, url: str) -> None:
    whole = client.get(url)
    etag = whole.headers["etag"]
    assert re.fullmatch(r'"[!-~]+"', etag)  # strong
    for tag in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        answer = client.get(url, headers={"If-None-Match": tag, "Range": "bytes=0-3"})
        assert (tag, answer.status_code, answer.content) == (tag, 304, b"")
        assert answer.headers["etag"] == etag
    assert client.get(url, headers={"If-None-Match": '"other"'}).status_code == 200
    part = {"Range": "bytes=0-3"}
    assert client.get(url, headers={**part, "If-Range": etag}).status_code == 206
    for other in ('"other"', f"W/{etag}", "Sat, 21 Nov 2026 10:00:00 GMT"):
        assert client.get(url, headers={**part, "If-Range": other}).content == DATA


def test_head_says_what_get_would(client: TestClient, url: str) -> None:
    head, get = client.head(url), client.get(url)
    assert head.content == b""
    for name in ("content-length", "etag", "content-disposition", "accept-ranges", "content-type"):
        assert head.headers[name] == get.headers[name]
    part = client.head(url, headers={"Range": "bytes=0-3"})  # which is of GET alone
    assert (part.status_code, part.headers["content-length"]) == (200, str(SIZE))
    assert "content-range" not in part.headers
    assert client.head(url, headers={"Range": f"bytes={SIZE}-"}).status_code == 200


def test_a_file_can_do_nothing_to_a_browser(client: TestClient, url: str) -> None:
    for answer in (client.get(url), client.get(url, headers={"Range": "bytes=0-3"})):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert answer.headers["content-disposition"].startswith("attachment;")
        assert "private" in answer.headers["cache-control"]


# --- names ----------------------------------------------------------------------------------------


def test_a_download_is_called_after_its_film(client: TestClient, url: str) -> None:
    plain, whole = name_in(client.get(url).headers["content-disposition"])
    assert whole == "Ärger die Katze .. Hund 240p.mp4"
    assert plain == "Arger die Katze .. Hund 240p.mp4"


@pytest.mark.parametrize(
    ("title", "path", "name"),
    [
        ("Film", "source.mp4", "Film.mp4"),
        ("Film", "720p.mp4", "Film 720p.mp4"),
        ("Film", "audio.mp3", "Film.mp3"),
        ("Film", "audio.m4a", "Film.m4a"),
        ("Film", "poster.jpg", "Film.jpg"),
        ("Film", "master.m3u8", "Film master.m3u8"),
        ("Film", "report.json", "Film report.json"),
        ("Version 2.0", "720p.mp4", "Version 2.0 720p.mp4"),
        ("", "720p.mp4", "video 720p.mp4"),
        ("...", "720p.mp4", "video 720p.mp4"),
        ("../../etc/passwd", "720p.mp4", "etc passwd 720p.mp4"),
        ("a\r\nSet-Cookie: x=1", "720p.mp4", "a Set-Cookie x=1 720p.mp4"),
        ("x\u202egnp.exe", "720p.mp4", "x gnp.exe 720p.mp4"),  # would read as exe.png
        ("C:\\con|*?<>", "720p.mp4", "C con 720p.mp4"),
        ("映画", "720p.mp4", "映画 720p.mp4"),
        ("x" * 300, "720p.mp4", "x" * 150 + " 720p.mp4"),
    ],
)
def test_names_of_outputs(title: str, path: str, name: str) -> None:
    assert output_name(title, path) == name


@pytest.mark.parametrize(
    ("title", "filename", "name"),
    [
        ("Film", "IMG_1.MOV", "Film.MOV"),
        ("IMG_1.MOV", "IMG_1.MOV", "IMG_1.MOV"),
        ("Film", "noextension", "Film"),
        ("Film", "x.averylongextension", "Film"),
        ("Film", "x.mp4/..", "Film.mp4"),
        ("", "", "video"),
    ],
)
def test_names_of_sources(title: str, filename: str, name: str) -> None:
    assert source_name(title, filename) == name


def test_a_disposition_by_the_letter_of_the_rfc() -> None:
    """RFC 6266, section 5, writes this name so, and says that old clients read another."""
    header = disposition("€ rates")
    assert header.startswith("attachment; filename=")
    assert header.lower().endswith("filename*=utf-8''%e2%82%ac%20rates")


@given(title=st.text(max_size=400), filename=st.text(max_size=300))
def test_no_title_breaks_out_of_its_header(title: str, filename: str) -> None:
    for name in (output_name(title, "720p.mp4"), source_name(title, filename)):
        assert not set(name) & set('/\\:*?"<>|\0\r\n')
        assert name not in ("", ".", "..")
        header = disposition(name)
        assert header.isascii()
        assert header.isprintable()
        plain, whole = name_in(header)
        assert whole == name
        assert plain
        assert not set(plain) & set('/\\:*?"<>|')


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("\uff0e\uff0e\uff0fetc\uff0fpasswd.mp4", "etc passwd.mp4"),  # full-width ../etc/passwd
        ("a\u2100b.mp4", "aa cb.mp4"),  # one sign that is "a/c" in ASCII
        ("100%.mp4", "100.mp4"),
        ("\uff0f", "file"),
    ],
)
def test_no_folder_comes_back_in_ascii(name: str, plain: str) -> None:
    assert name_in(disposition(name)) == (plain, name)


def test_many_ranges_are_answered_quickly(client: TestClient, url: str) -> None:
    """Known attacks on range parsers take seconds for a header like these."""
    began = time.monotonic()
    for asked in ("bytes=" + "0-0," * 5000, "bytes=" + "0" * 20_000, "bytes=" + " " * 20_000):
        assert client.get(url, headers={"Range": asked}).status_code in (200, 206)
    assert time.monotonic() - began < 20


def test_a_listing_names_nothing_private(ada: Owner, job_id: str) -> None:
    """Where files lie is nobody's business: only links lead there."""
    shown: Any = ada.get(f"/v1/jobs/{job_id}/outputs")
    assert "tasks/" not in str(shown)
    assert "prefix" not in str(ada.get(f"/v1/jobs/{job_id}"))
