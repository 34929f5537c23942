"""The commands that talk to a service: login, logout, upload, submit, jobs, cancel, download.

They stand on the Python client (`telecine.client`), which is imported only once one of them runs.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from telecine import wishes
from telecine.engine.errors import Interrupted, MediaError, StepFailed, UsageError
from telecine.ordering import DEFAULT_PRESET, read_order
from telecine.printable import printable

if TYPE_CHECKING:
    from telecine.client import Client, Job, JobEvent, Playback, Progress, Upload
    from telecine.client.home import Credentials
    from telecine.display import Show
    from telecine.engine.events import JSON
    from telecine.engine.process import Cancel

COMMANDS = ("login", "logout", "upload", "submit", "jobs", "cancel", "download")
DEFAULT_URL = "http://127.0.0.1:8000"
MAX_LISTED = 1000

_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_INPUT_REFUSED = 3  # exit code: the service refused it, and asking again will not help


class ServiceRefused(MediaError):
    """The service's own answer, with its code."""

    def __init__(self, message: str, *, code: str, retryable: bool) -> None:
        super().__init__(message, code=code, retryable=retryable)
        self.exit_code = StepFailed.exit_code if retryable else _INPUT_REFUSED


# --- words ------------------------------------------------------------------------------------


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    """The grammar of these commands: what `--help` and docs/reference/cli.md say."""

    def command(name: str, what: str) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = commands.add_parser(
            name, help=what, description=what, allow_abbrev=False
        )
        return sub

    login = command("login", "Log in to a service; the other commands then use it.")
    login.add_argument("url", metavar="URL", nargs="?", default=DEFAULT_URL)
    login.add_argument(
        "--key", action="store_true", help="read an API key from standard input instead of asking"
    )
    command("logout", "End the session that login began, and forget it.")

    upload = command("upload", "Upload FILE; the same command again goes on where it stopped.")
    upload.add_argument("file", metavar="FILE", type=Path)
    upload.add_argument("--title", metavar="TEXT", help="the asset's title (default: its name)")

    submit = command("submit", "Make the outputs of FILE, which is uploaded first, or of ASSET.")
    submit.add_argument("what", metavar="FILE|ASSET")
    submit.add_argument(
        "--preset",
        metavar="NAME",
        help=f"outputs with a name, such as stream, web-mp4 or mp3 (default: {DEFAULT_PRESET})",
    )
    wishes.add_wishes(
        submit,
        "an output, as `telecine transcode` takes it, or of a picture "
        "image:NAME.FORMAT:OPERATIONS, such as image:small.webp:resize:w=800; repeat it for more",
    )
    submit.add_argument("--title", metavar="TEXT", help="the asset's title (default: its name)")
    submit.add_argument(
        "--priority", type=int, default=0, metavar="N", help="from -100 to 100 (default: 0)"
    )
    submit.add_argument("--watch", action="store_true", help="stay, and show how far it is")

    jobs = command("jobs", "List my jobs, the newest first.")
    jobs.add_argument("--state", metavar="STATE", help="only queued, running, succeeded, …")
    jobs.add_argument(
        "--limit", type=_count, default=20, metavar="N", help="how many at most (default: 20)"
    )

    cancel = command("cancel", "Cancel JOB.")
    cancel.add_argument("job", metavar="JOB")

    download = command("download", "Fetch the outputs of JOB; what is there already stays.")
    download.add_argument("job", metavar="JOB")
    download.add_argument(
        "-o", dest="folder", metavar="DIR", type=Path, help="the folder (default: JOB's id)"
    )
    for sub, what in (
        (upload, "print the upload as JSON"),
        (submit, "print the job as JSON; with --watch one event a line"),
        (jobs, "print the jobs as JSON"),
        (cancel, "print the job as JSON"),
        (download, "print the outputs and where they lie as JSON"),
    ):
        sub.add_argument("--json", action="store_true", help=what)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_LISTED:
        raise argparse.ArgumentTypeError(f"a number from 1 to {MAX_LISTED}, not {text!r}")
    return int(text)


# --- commands ---------------------------------------------------------------------------------


def run(found: argparse.Namespace, cancel: Cancel) -> int:
    """One of these commands; the exit code. Raises `MediaError`, `OSError`."""
    try:
        from telecine.client import ApiError, ClientError
    except ImportError as error:  # the engine can be installed without the client
        raise UsageError(
            f"the client is not installed (no {error.name}): pip install 'telecine[serve]'",
            code="service_missing",
        ) from None
    doing: dict[str, Callable[[argparse.Namespace, Cancel], int]] = {
        "login": _login,
        "logout": _logout,
        "upload": _upload,
        "submit": _submit,
        "jobs": _jobs,
        "cancel": _cancel,
        "download": _download,
    }
    try:
        return doing[found.command](found, cancel)
    except ApiError as error:
        asked = "" if error.request_id is None else f" (request {error.request_id})"
        again = error.status >= 500 or error.status == 429
        raise ServiceRefused(error.message + asked, code=error.code, retryable=again) from error
    except ClientError as error:
        raise StepFailed(error.message, code="service_unreachable", retryable=True) from error


def _login(found: argparse.Namespace, _: Cancel) -> int:
    from telecine.client import Client, MemoryKeeper
    from telecine.client.home import Credentials, CredentialsFile

    url = _checked_url(found.url)
    kept = CredentialsFile()
    if found.key:
        key = sys.stdin.readline().strip()
        if not key:
            raise UsageError("no API key came from standard input", code="no_credentials")
        with Client(url, api_key=key) as client:
            _try(client)
        kept.save(Credentials(url, api_key=key))
        _say(f"{url}: the API key is good, and kept in {kept.path}")
        return 0
    email, password = _ask()
    keeper = MemoryKeeper()
    with Client(url, keeper=keeper) as client:
        client.log_in(email, password)
    kept.save(Credentials(url, tokens=keeper.current()))
    _say(f"{url}: logged in as {email}")
    return 0


def _try(client: Client) -> None:
    """Raises what the service says to a key that is none. Of a good one it may say that it lacks
    the scope for what was asked."""
    from telecine.client import ApiError

    try:
        next(client.jobs(), None)
    except ApiError as error:
        if error.code != "scope_missing":
            raise


def _checked_url(text: str) -> str:
    from telecine.client.connection import origin

    try:
        return origin(text)
    except ValueError as error:
        raise UsageError(str(error), code="url_invalid") from None


def _ask() -> tuple[str, str]:
    """E-mail address and password, from the terminal."""
    from getpass import getpass

    if not sys.stdin.isatty():
        text = "there is no terminal to ask for the password; --key reads an API key"
        raise UsageError(text, code="no_credentials")
    print("e-mail: ", end="", file=sys.stderr, flush=True)
    email = sys.stdin.readline().strip()
    return email, getpass("password: ")


def _logout(_: argparse.Namespace, __: Cancel) -> int:
    from telecine.client import ApiError
    from telecine.client.home import CredentialsFile

    kept = CredentialsFile()
    found = kept.load()
    if found is None:
        _say("nobody was logged in")
        return 0
    if found.tokens is not None:
        with _open(found, kept) as client:
            try:
                client.log_out()
            except ApiError as error:
                if error.status != 401:  # the session had ended already
                    raise
    kept.save(None)
    _say(f"{found.url}: logged out")
    return 0


def _upload(found: argparse.Namespace, cancel: Cancel) -> int:
    with _service() as client:
        files = _Files(client, found, cancel)
        upload = files.send(found.file, title=found.title, order={})
        files.forget()
        if found.json:
            _print_json(_plain(upload))
        else:
            print(upload.asset_id)
            _say(f"uploaded: `telecine submit {upload.asset_id}` makes something of it")
        return 0


def _submit(found: argparse.Namespace, cancel: Cancel) -> int:
    order = read_order(found)
    path = Path(found.what)
    inputs = {} if order.wishes is None else order.wishes.inputs
    for file in (path, *inputs.values()):  # before the first of them is on its way
        if not _is_asset(file):
            _see_file(file)
    with _service() as client:
        files = _Files(client, found, cancel)
        if order.wishes is None and not _is_asset(path):
            upload = files.send(path, title=found.title, order=order.body)
            assert upload.job_id is not None
            job = client.job(upload.job_id)
        else:
            asset_id = files.asset(path, title=found.title)
            assets = {name: files.asset(beside) for name, beside in inputs.items()}
            job = client.submit(asset_id, **order.with_assets(assets))
        files.forget()
        if found.watch:
            return _watched(client, job, found, cancel)
        if found.json:
            _print_json(_plain(job))
        else:
            print(job.id)
        return 0


def _is_asset(path: Path) -> bool:
    """Whether it is an asset's id that was named, and no file."""
    return _ULID.fullmatch(str(path)) is not None and not path.exists()


def _see_file(path: Path) -> None:
    """Raises `UsageError` (`file_missing`)."""
    if not path.is_file():
        raise UsageError(f"no such file: {path}", code="file_missing")


class _Files:
    """Files on their way to a service. Which upload each belongs to is remembered until `forget`,
    so that the same command goes on where an interrupted one stopped."""

    def __init__(self, client: Client, found: argparse.Namespace, cancel: Cancel) -> None:
        from telecine.client.home import UnfinishedUploads

        self._client = client
        self._found = found
        self._cancel = cancel
        self._unfinished = UnfinishedUploads()
        self._known: list[str] = []

    def asset(self, path: Path, title: str | None = None) -> str:
        """The id of the asset that a file becomes, or that was named instead of one."""
        if _is_asset(path):
            return str(path)
        asset_id = self.send(path, title=title, order={}).asset_id
        assert asset_id is not None
        _say(f"uploaded: {path} is the asset {asset_id}")
        return asset_id

    def send(self, path: Path, *, title: str | None, order: Mapping[str, Any]) -> Upload:
        """The finished upload of a file; one that was begun by an earlier run is gone on with.
        Raises `UsageError` (`file_missing`), `ServiceRefused`."""
        from telecine.client.home import fingerprint

        _see_file(path)
        known_as = fingerprint(path, self._client.url, title, order)
        self._known.append(known_as)
        upload = _begun(self._client, self._unfinished.find(known_as))
        if upload is None:
            size = path.stat().st_size
            upload = self._client.create_upload(path.name, size, title=title, **order)
            self._unfinished.keep(known_as, upload.id, path)
        with _shown(self._found, self._cancel, path.name) as show:
            upload = self._client.send(upload, path, on_sent=_uploading(show))
        if upload.error is not None:
            self._unfinished.forget(known_as)
            raise ServiceRefused(upload.error.message, code=upload.error.code, retryable=False)
        return upload

    def forget(self) -> None:
        for known_as in self._known:
            self._unfinished.forget(known_as)


def _begun(client: Client, upload_id: str | None) -> Upload | None:
    """An upload that can be gone on with, or that has all its bytes."""
    from telecine.client import ApiError

    if upload_id is None:
        return None
    try:
        upload = client.upload_state(upload_id)
    except ApiError as error:
        if error.status in (404, 410):
            return None
        raise
    return upload if upload.state in ("open", "finished") and upload.error is None else None


def _watched(client: Client, job: Job, found: argparse.Namespace, cancel: Cancel) -> int:
    """Show a job to its end; says how it ended."""
    try:
        with _shown(found, cancel, job.id) as show:
            for told in client.watch(job.id):
                if found.json:
                    _print_line(told)
                else:
                    _show(show, told, lambda: client.playback(job.asset_id))
    except Interrupted:
        text = f"interrupted: the job goes on (`telecine cancel {job.id}` ends it)"
        raise Interrupted(text) from None
    job = client.job(job.id)
    if job.state == "succeeded":
        if not found.json:
            _say_done(client, job)
        return 0
    if job.error is not None:
        raise StepFailed(f"{job.id}: {job.error.code}: {job.error.message}", code="job_failed")
    raise StepFailed(f"{job.id}: {job.state}", code="job_cancelled")


def _say_done(client: Client, job: Job) -> None:
    play = job.time_to_first_play_s
    played = f", playable after {play:.1f} s" if play is not None else ""
    print(printable(f"{job.id}: succeeded{played}"))
    playback = client.playback(job.asset_id)
    for url in (playback.embed_url, playback.hls_url):
        if url is not None:
            print(printable(f"  {url}"))
    print(f"  telecine download {job.id}")


def _jobs(found: argparse.Namespace, _: Cancel) -> int:
    from itertools import islice

    with _service() as client:
        jobs = list(islice(client.jobs(state=found.state), found.limit))
    if found.json:
        _print_json([_plain(job) for job in jobs])
        return 0
    for job in jobs:
        percent = f"{job.progress.fraction:4.0%}" if job.progress else "    "
        wanted = job.preset or ",".join(str(output.get("type")) for output in job.outputs)
        at = job.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
        print(printable(f"{job.id}  {at}  {job.state:<9} {percent}  {wanted}"))
    return 0


def _cancel(found: argparse.Namespace, _: Cancel) -> int:
    with _service() as client:
        job = client.cancel(found.job)
    if found.json:
        _print_json(_plain(job))
    else:
        _say(f"{job.id}: {'cancelled' if job.state == 'cancelled' else 'being cancelled'}")
    return 0


def _download(found: argparse.Namespace, cancel: Cancel) -> int:
    from telecine.client.client import safe_path

    folder = found.folder if found.folder is not None else Path(found.job)
    with _service() as client:
        made_there = client.outputs(found.job)
        outputs = [output for output in made_there if not output.streamed]
        if len(outputs) < len(made_there):
            job = client.job(found.job)
            _say(f"not fetched: the stream, which plays at {client.playback(job.asset_id).hls_url}")
        size = sum(output.size_bytes for output in outputs)
        made, before = [], 0
        with _shown(found, cancel, found.job) as show:
            for output in outputs:
                target = folder / safe_path(output.path)
                hear = _downloading(show, before, size)
                client.download(output, target, on_received=hear)
                before += output.size_bytes
                made.append({**_plain(output), "file": str(target)})
    if found.json:
        _print_json(made)
        return 0
    for one in made:
        print(printable(one["file"]))
    return 0


# --- the service ------------------------------------------------------------------------------


@contextmanager
def _service() -> Iterator[Client]:
    """The service that `login` chose."""
    from telecine.client.home import CredentialsFile

    kept = CredentialsFile()
    found = kept.load()
    if found is None:
        raise UsageError("log in first: telecine login URL", code="not_logged_in")
    with _open(found, kept) as client:
        yield client


def _open(found: Credentials, kept: Any) -> Client:
    from telecine.client import Client

    url = _checked_url(found.url)
    if found.api_key is not None:
        return Client(url, api_key=found.api_key)
    return Client(url, keeper=kept)


# --- showing ----------------------------------------------------------------------------------


@contextmanager
def _shown(found: argparse.Namespace, cancel: Cancel, name: str) -> Iterator[Show | None]:
    """How far it is, on a terminal; otherwise nothing."""
    from telecine import display
    from telecine.engine.events import Event

    if found.json or not sys.stderr.isatty():
        yield None
        return
    show = display.choose(json=False, cancel=cancel)
    with show:
        show.hear(Event("started", {"source": name}))
        yield show


def _uploading(show: Show | None) -> Callable[[int, int], None]:
    return _moving(show, "sending")


def _downloading(show: Show | None, before: int, size: int) -> Callable[[int, int], None]:
    """Of one file among several: `before` bytes are done, `size` are to be."""
    hear = _moving(show, "fetching")
    return lambda done, _: hear(before + done, size)


def _moving(show: Show | None, stage: str) -> Callable[[int, int], None]:
    """Bytes that move, as the display's progress."""
    from telecine.engine.events import Event

    began = time.monotonic()
    first: list[int] = []  # what an earlier run had moved says nothing about this one's pace

    def hear(done: int, size: int) -> None:
        if show is None:
            return
        if not first:
            first.append(done)
        moved, took_s = done - first[0], time.monotonic() - began
        eta_s = (size - done) * took_s / moved if moved > 0 else None
        fraction = done / size if size else 1.0
        data: dict[str, JSON] = {"stage": stage, "fraction": fraction, "speed": None}
        show.hear(Event("progress", {**data, "eta_s": eta_s, "rungs": {}}))

    return hear


def _show(show: Show | None, told: JobEvent | Progress, look: Callable[[], Playback]) -> None:
    """What a job tells, in the display's words."""
    from telecine.client import Progress
    from telecine.engine.events import Event

    if isinstance(told, Progress):
        stage = told.stage or "queued"
        data: dict[str, JSON] = {"stage": stage, "fraction": told.fraction, "speed": told.speed}
        if show is not None:
            rungs: dict[str, JSON] = dict(told.rungs)
            show.hear(Event("progress", {**data, "eta_s": told.eta_s, "rungs": rungs}))
    elif told.type == "warning":
        message = str(told.data.get("message", ""))
        if show is not None:
            show.hear(Event("warning", {"message": message}))
        _say(f"warning: {message}")
    elif told.type == "playable" and show is not None:
        after_s = told.data.get("time_to_first_play_s")
        show.hear(Event("playable", {"after_s": after_s, "playlist": look().embed_url}))


def _plain(value: Any) -> Any:
    """A client's answer as JSON says it."""
    from dataclasses import asdict

    return asdict(value)


def _print_line(told: JobEvent | Progress) -> None:
    from telecine.client import JobEvent

    if isinstance(told, JobEvent):
        line = {"event": told.type, "number": told.number, **told.data}
    else:
        line = {"event": "progress", **_plain(told)}
    print(json.dumps(line, ensure_ascii=False, default=str), flush=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False, default=_rfc3339))


def _rfc3339(value: Any) -> str:
    assert isinstance(value, datetime)
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _say(text: str) -> None:
    print(f"telecine: {printable(text)}", file=sys.stderr, flush=True)
