"""Signed, expiring links to files, and what stands behind one.

Whoever has a link has the file until it expires, like the link of any object store; nothing but
the signature is asked for. The name in a link is for people: what counts is the id before it.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import quote

from telecine.service.db import assets as asset_rows
from telecine.service.db import jobs as job_rows
from telecine.service.db.assets import AssetRow
from telecine.service.db.jobs import OutputRow
from telecine.service.domain import Forbidden, NotFound
from telecine.service.services import Services

PURPOSE = "download"
MAX_NAME = 150  # signs: with an extension below what file systems take, also as UTF-8 of 1.5 bytes

What = Literal["output", "source"]


@dataclass(frozen=True, slots=True)
class Link:
    """`expires_at` in seconds since 1970, by the database's clock."""

    url: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Served:
    """A stored object that may be handed out under this name."""

    key: str
    content_type: str
    name: str


def link_output(services: Services, output: OutputRow, title: str, now_s: float) -> Link:
    """A link to a finished file."""
    return _link(services, "output", output.id, output_name(title, output.path), now_s)


def link_source(services: Services, asset: AssetRow, now_s: float) -> Link:
    """A link to an asset's source."""
    return _link(services, "source", asset.id, source_name(asset.title, asset.filename), now_s)


def _link(services: Services, what: What, thing_id: str, name: str, now_s: float) -> Link:
    expires_at = int(now_s) + services.settings.link_ttl_s
    signature = services.signer.sign(PURPOSE, f"{what}:{thing_id}", expires_at)
    where = thing_id if what == "output" else f"source/{thing_id}"
    url = f"{services.settings.base_url}/d/{signature}/{where}/{quote(name, safe='')}"
    return Link(url, expires_at)


def open_output(services: Services, signature: str, output_id: str) -> Served:
    """The file behind a link. Raises `Forbidden` (`link_invalid`), `NotFound` (`file_unknown`)."""
    with services.database.read() as tx:
        _check(services, "output", output_id, signature, tx.now_s())
        found = job_rows.find_output(tx, output_id)
    if found is None:
        raise NotFound("the file is gone", code="file_unknown")
    row, prefix, title = found
    return Served(
        key=f"{prefix}/{row.path}",
        content_type=row.content_type,
        name=output_name(title, row.path),
    )


def open_source(services: Services, signature: str, asset_id: str) -> Served:
    """The source behind a link. Raises as `open_output`."""
    with services.database.read() as tx:
        _check(services, "source", asset_id, signature, tx.now_s())
        row = asset_rows.find_asset(tx, asset_id)
    if row is None or row.source_key is None:
        raise NotFound("the file is gone", code="file_unknown")
    return Served(
        key=row.source_key,
        content_type=row.content_type,
        name=source_name(row.title, row.filename),
    )


def _check(services: Services, what: What, thing_id: str, signature: str, now_s: float) -> None:
    if not services.signer.valid(PURPOSE, f"{what}:{thing_id}", signature, now_s):
        raise Forbidden("this link has expired or was altered", code="link_invalid")


# --- names ----------------------------------------------------------------------------------------


def output_name(title: str, path: str) -> str:
    """What a finished file is called on the client's disk: `Title 720p.mp4`."""
    file = PurePosixPath(path)
    # `source.mp4` and `audio.mp3` are the film itself, `image.jpg` the only picture that was made;
    # `720p.mp4` is one size of it.
    part = "" if file.stem in ("source", "audio", "poster", "image") else f" {file.stem}"
    return _name(title, f"{part}{file.suffix}")


def source_name(title: str, filename: str) -> str:
    """The title with the extension that the source came with."""
    suffix = PurePosixPath(clean_name(filename)).suffix
    suffix = suffix if len(suffix) <= 10 else ""
    return _name(title.removesuffix(suffix) if suffix else title, suffix)


def _name(title: str, ending: str) -> str:
    return (clean_name(title)[:MAX_NAME].rstrip(" .") or "video") + clean_name(ending, strip=False)


def clean_name(text: str, *, strip: bool = True) -> str:
    """Text as a file name on any system: no folders, no wildcards, no control signs, and none that
    turn the direction of what follows, which could make `exe.mp4` of `4pm.exe`."""
    kept = "".join(
        " " if unicodedata.category(sign)[0] in "CZ" or sign in '/\\:*?"<>|' else sign
        for sign in unicodedata.normalize("NFC", text)
    )
    kept = " ".join(kept.split()) if strip else kept
    return kept.strip(" .") if strip else kept


def disposition(name: str) -> str:
    """`Content-Disposition` for a download of this name (RFC 6266, RFC 8187): in ASCII for old
    clients, whole for all others."""
    # Cleaned once more: in ASCII a full-width solidus is a solidus.
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = clean_name(plain.replace("%", "")) or "file"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
