"""The client: one object, one service. Blocking; safe to use from many threads.

from pathlib import Path
from telecine.client import Client

with Client("http://127.0.0.1:8000", api_key="tck_…") as telecine:
    upload = telecine.upload(Path("talk.mov"), preset="web-mp4")
    for event in telecine.watch(upload.job_id):
        print(event)
    telecine.download_outputs(upload.job_id, Path("talk"))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from telecine.client import downloads, events, uploads
from telecine.client.answers import (
    ApiKey,
    Asset,
    ImageKey,
    Job,
    JobEvent,
    NewApiKey,
    NewImageKey,
    Output,
    Playback,
    Progress,
    PublicAsset,
    Session,
    Source,
    Upload,
    User,
    read,
)
from telecine.client.connection import Connection, read_tokens
from telecine.client.errors import UnexpectedAnswer
from telecine.client.tokens import MemoryKeeper, TokenKeeper

T = TypeVar("T")
PAGE = 100  # the largest page that the service gives
SCOPES = ("assets:read", "assets:write", "jobs:read", "jobs:write", "uploads:write")


# What who ended a session, or deleted their account, is answered to the same wish again.
_ENDED = (401, 404)


def _hear_nothing(done: int, size: int) -> None:
    """Where nobody wants to know how far it is."""


class Client:
    """A service, as one user sees it: by an API key, by a session (`log_in`), or as nobody.

    `url` is a scheme, a host and a port; anything else raises `ValueError`. `keeper` keeps the
    session's tokens, so that they outlive this object; `transport` is how requests travel (a
    proxy, a private CA), as httpx2 knows it. Every method raises `ApiError` and
    `ConnectionFailed`; what else, it says.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        keeper: TokenKeeper | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._connection = Connection(
            url,
            api_key=api_key,
            keeper=keeper if keeper is not None else MemoryKeeper(),
            transport=transport,
        )

    @property
    def url(self) -> str:
        return self._connection.url

    def close(self) -> None:
        """Close its connections. The session stays: `log_out` ends it."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- accounts

    def sign_up(
        self, email: str, password: str, *, name: str | None = None, token: str | None = None
    ) -> User:
        """A new account. `token`: an invitation, or what makes the first one an administrator."""
        body = {"email": email, "password": password, "name": name, "token": token}
        return read(User, self._connection.post("/v1/users", _said(body), sign=False))

    def log_in(self, email: str, password: str) -> None:
        """Begin a session; its tokens are kept and renewed from now on."""
        body = {"email": email, "password": password}
        answer = self._connection.post("/v1/sessions", body, sign=False)
        self._connection.keeper.put(read_tokens(answer))

    def log_out(self) -> None:
        """End this session: its tokens are good for nothing within a second."""
        self._connection.delete("/v1/sessions/current", gone=_ENDED)
        self._connection.keeper.put(None)

    def log_out_everywhere(self) -> None:
        """End all my sessions, this one too."""
        self._connection.delete("/v1/sessions", gone=_ENDED)
        self._connection.keeper.put(None)

    def me(self) -> User:
        return read(User, self._connection.get("/v1/users/me"))

    def delete_me(self, password: str) -> None:
        """Delete the account, with all its media; its sessions and keys end at once."""
        self.me()  # so that a session which had ended before is not taken for a deleted account
        self._connection.delete("/v1/users/me", {"password": password}, gone=_ENDED)
        self._connection.keeper.put(None)

    def change_password(self, current: str, new: str) -> None:
        """Ends all my other sessions. It is asked once: after `ConnectionFailed` try which of the
        two logs in."""
        body = {"current_password": current, "password": new}
        self._connection.put("/v1/users/me/password", body)

    def session(self) -> Session:
        """The session that asks."""
        return read(Session, self._connection.get("/v1/sessions/current"))

    def sessions(self) -> Iterator[Session]:
        return self._pages(Session, "/v1/sessions")

    def end_session(self, session_id: str) -> None:
        self._connection.delete(f"/v1/sessions/{session_id}")

    def create_api_key(
        self, name: str, scopes: Sequence[str] = SCOPES, *, expires_in_s: int | None = None
    ) -> NewApiKey:
        """A new key, with all that a key may do unless `scopes` say less. Its secret is shown this
        once."""
        body = {"name": name, "scopes": list(scopes), "expires_in_s": expires_in_s}
        answer = _mapping(self._connection.post("/v1/api-keys", _said(body)))
        return NewApiKey(read(ApiKey, answer), str(answer.get("secret")))

    def api_keys(self) -> Iterator[ApiKey]:
        return self._pages(ApiKey, "/v1/api-keys")

    def revoke_api_key(self, key_id: str) -> None:
        self._connection.delete(f"/v1/api-keys/{key_id}")

    def create_image_key(self, name: str) -> NewImageKey:
        """A new key that signs URLs of my pictures (`ImageUrls`). Its secret is shown this once."""
        answer = _mapping(self._connection.post("/v1/image-keys", {"name": name}))
        return NewImageKey(read(ImageKey, answer), str(answer.get("secret")))

    def image_keys(self) -> Iterator[ImageKey]:
        return self._pages(ImageKey, "/v1/image-keys")

    def revoke_image_key(self, key_id: str) -> None:
        """The URLs that it has signed are refused within a second."""
        self._connection.delete(f"/v1/image-keys/{key_id}")

    # --- uploads

    def create_upload(
        self,
        filename: str,
        size_bytes: int,
        *,
        title: str | None = None,
        sha256: str | None = None,
        preset: str | None = None,
        outputs: Sequence[Mapping[str, Any]] | None = None,
        priority: int = 0,
        metadata: Mapping[str, str] | None = None,
        source_policy: str = "keep",
    ) -> Upload:
        """Open an upload. With a preset or outputs, its end begins a job of them. `sha256`: what
        the service shall find, else it refuses the file."""
        order = _order(preset, outputs, priority, metadata, source_policy)
        body = {
            "filename": filename,
            "size_bytes": size_bytes,
            "title": title,
            "sha256": sha256,
            "on_complete": order if preset is not None or outputs is not None else None,
        }
        return read(Upload, self._connection.post("/v1/uploads", _said(body)))

    def send(
        self, upload: Upload, path: Path, *, on_sent: uploads.OnSent = _hear_nothing
    ) -> Upload:
        """Send a file's bytes into an upload, from the first one that the service lacks; the upload
        as it is when all have arrived. `on_sent(bytes, of_bytes)` hears how far it is.

        Raises `FileChanged`, `OSError`. What has arrived stays, unless the file is refused.
        """
        with path.open("rb") as file:
            uploads.send_file(self._connection, upload, file, on_sent)
        return self.upload_state(upload.id)

    def upload(
        self,
        path: Path,
        *,
        title: str | None = None,
        preset: str | None = None,
        outputs: Sequence[Mapping[str, Any]] | None = None,
        priority: int = 0,
        metadata: Mapping[str, str] | None = None,
        source_policy: str = "keep",
        on_sent: uploads.OnSent = _hear_nothing,
    ) -> Upload:
        """`create_upload`, then `send`."""
        upload = self.create_upload(
            path.name,
            path.stat().st_size,
            title=title,
            preset=preset,
            outputs=outputs,
            priority=priority,
            metadata=metadata,
            source_policy=source_policy,
        )
        return self.send(upload, path, on_sent=on_sent)

    def upload_state(self, upload_id: str) -> Upload:
        return read(Upload, self._connection.get(f"/v1/uploads/{upload_id}"))

    def uploads(self) -> Iterator[Upload]:
        return self._pages(Upload, "/v1/uploads")

    def cancel_upload(self, upload_id: str) -> None:
        self._connection.delete(f"/v1/uploads/{upload_id}")

    # --- assets

    def asset(self, asset_id: str) -> Asset:
        return read(Asset, self._connection.get(f"/v1/assets/{asset_id}"))

    def assets(
        self, *, query: str | None = None, state: str | None = None, kind: str | None = None
    ) -> Iterator[Asset]:
        """Mine, the newest first; of one `kind`: `video`, `audio` or `image`."""
        return self._pages(Asset, "/v1/assets", {"q": query, "state": state, "kind": kind})

    def gallery(self, *, query: str | None = None) -> Iterator[PublicAsset]:
        """What everybody may see."""
        return self._pages(PublicAsset, "/v1/gallery", {"q": query})

    def edit_asset(
        self,
        asset_id: str,
        *,
        title: str | None = None,
        description: str | None = None,
        visibility: str | None = None,
    ) -> Asset:
        """Change what is given; the rest stays."""
        body = {"title": title, "description": description, "visibility": visibility}
        return read(Asset, self._connection.patch(f"/v1/assets/{asset_id}", _said(body)))

    def delete_asset(self, asset_id: str) -> None:
        """Delete it with every file of it."""
        self._connection.delete(f"/v1/assets/{asset_id}")

    def source(self, asset_id: str) -> Source:
        """A link to the bytes that were uploaded."""
        return read(Source, self._connection.get(f"/v1/assets/{asset_id}/source"))

    def download_source(
        self,
        asset_id: str,
        target: Path,
        *,
        on_received: downloads.OnReceived = _hear_nothing,
    ) -> None:
        """Make `target` the source of an asset, as `download` does; where its digest is not known
        yet, only its size is checked."""
        found = self.source(asset_id)
        self._fetch(found, target, on_received, lambda: self.source(asset_id).url)

    def playback(self, asset_id: str) -> Playback:
        return read(Playback, self._connection.get(f"/v1/assets/{asset_id}/playback"))

    # --- jobs

    def submit(
        self,
        asset_id: str,
        *,
        preset: str | None = None,
        outputs: Sequence[Mapping[str, Any]] | None = None,
        priority: int = 0,
        metadata: Mapping[str, str] | None = None,
        source_policy: str = "keep",
    ) -> Job:
        """Begin a job: a preset's outputs, or these."""
        order = _order(preset, outputs, priority, metadata, source_policy)
        return read(Job, self._connection.post("/v1/jobs", {"asset_id": asset_id, **order}))

    def estimate(
        self,
        asset_id: str,
        *,
        preset: str | None = None,
        outputs: Sequence[Mapping[str, Any]] | None = None,
    ) -> Mapping[str, Any]:
        """What such a job would do, why, and what it would cost, without doing it."""
        body = _said({"asset_id": asset_id, "preset": preset, "outputs": outputs})
        return _mapping(self._connection.post("/v1/jobs/estimate", body))

    def job(self, job_id: str) -> Job:
        return read(Job, self._connection.get(f"/v1/jobs/{job_id}"))

    def jobs(self, *, state: str | None = None, asset_id: str | None = None) -> Iterator[Job]:
        """My jobs, the newest first; pages are asked for as they are needed."""
        return self._pages(Job, "/v1/jobs", {"state": state, "asset_id": asset_id})

    def cancel(self, job_id: str) -> Job:
        """Cancel it: what runs stops within seconds and its files go."""
        return read(Job, self._connection.post(f"/v1/jobs/{job_id}/cancel"))

    def retry(self, job_id: str, *, only_failed: bool = False) -> Job:
        """Do a job that has ended again, whole or only what failed of it."""
        body = {"only_failed": only_failed}
        return read(Job, self._connection.post(f"/v1/jobs/{job_id}/retry", body))

    def watch(self, job_id: str, *, after: int = 0) -> Iterator[JobEvent | Progress]:
        """What happens to a job, from its event number `after` on, as it happens, up to its end.
        Connections that break are made again: no event is missed, none comes twice."""
        return events.watch(self._connection, job_id, after)

    def outputs(self, job_id: str) -> tuple[Output, ...]:
        """The files that a job made."""
        found = self._pages(Output, f"/v1/jobs/{job_id}/outputs")
        return tuple(replace(output, job_id=job_id) for output in found)

    def download(
        self,
        output: Output,
        target: Path,
        *,
        on_received: downloads.OnReceived = _hear_nothing,
    ) -> None:
        """Make `target` this output: whole and with the right digest, or not there. What a
        download that was broken off had got is not fetched again, and a link that has expired is
        asked for anew.

        Raises `DigestMismatch`, `OSError`.
        """
        self._fetch(output, target, on_received, lambda: self._link(output))

    def _link(self, output: Output) -> str:
        """Where the output is to be had from now on, or where it was."""
        found = self.outputs(output.job_id) if output.job_id is not None else ()
        return next((one.url for one in found if one.id == output.id), output.url)

    def _fetch(
        self,
        file: Output | Source,
        target: Path,
        on_received: downloads.OnReceived,
        renewed: Callable[[], str],
    ) -> None:
        downloads.fetch(
            self._connection,
            file.url,
            target,
            renewed=renewed,
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            on_received=on_received,
        )

    def download_outputs(
        self,
        job_id: str,
        folder: Path,
        *,
        on_received: Callable[[Output, int, int], None] | None = None,
    ) -> tuple[Path, ...]:
        """Every file of a job below `folder`, each at its path in the job's tree. A stream is not
        among them: its playlists would come without their segments, and it plays where it is.

        Raises as `download` does, and `UnexpectedAnswer` for a path that leads out of `folder`.
        """
        targets = []
        for output in self.outputs(job_id):
            if output.streamed:
                continue
            target = folder / safe_path(output.path)

            def hear(done: int, size: int, output: Output = output) -> None:
                if on_received is not None:
                    on_received(output, done, size)

            self.download(output, target, on_received=hear)
            targets.append(target)
        return tuple(targets)

    # --- pages

    def _pages(
        self, kind: type[T], path: str, params: Mapping[str, Any] | None = None
    ) -> Iterator[T]:
        asked = {"limit": PAGE, **_said(params or {})}
        while True:
            page = _mapping(self._connection.get(path, asked))
            for plain in page.get("data", ()):
                yield read(kind, plain)
            if not page.get("has_more"):
                return
            asked["after"] = page["next_cursor"]


def _said(body: Mapping[str, Any]) -> dict[str, Any]:
    """Without what nobody said anything about."""
    return {name: value for name, value in body.items() if value is not None}


def _order(
    preset: str | None,
    outputs: Sequence[Mapping[str, Any]] | None,
    priority: int,
    metadata: Mapping[str, str] | None,
    source_policy: str,
) -> dict[str, Any]:
    return _said(
        {
            "preset": preset,
            "outputs": outputs,
            "priority": priority,
            "metadata": metadata,
            "source_policy": source_policy,
        }
    )


def _mapping(answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, dict):
        raise UnexpectedAnswer("the answer is no JSON object")
    return answer


def safe_path(path: str) -> Path:
    """A path of the service's, which must stay below the folder that it is put into. Raises
    `UnexpectedAnswer`."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise UnexpectedAnswer(f"an output with the path {path!r}")
    return Path(*parts)
