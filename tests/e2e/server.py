"""A loopback HTTP server for the browser tests: one output folder, the page and the players.

It answers as an ordinary static server would (right media types, byte ranges, keep-alive), tells
browsers not to keep playlists, and can be made slow for chosen paths. Every request is recorded,
so that a test can say what a player asked for.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

HERE = Path(__file__).parent

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".mp4": "video/mp4",
    ".m4s": "video/iso.segment",
    ".m4a": "audio/mp4",
    ".vtt": "text/vtt",
}
CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Request:
    """One answered request: when (``time.monotonic``), for what, and the HTTP status."""

    at: float
    path: str
    status: int


class MediaServer(ThreadingHTTPServer):
    """Serves ``/media/`` from *root*, ``/players/`` from node_modules and the page itself.

    ``delay_s`` maps a request path to the seconds its answer is held back.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, root: Path, delay_s: Callable[[str], float] = lambda _path: 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.delay_s = delay_s
        self.requests: list[Request] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def url(self, name: str) -> str:
        return f"{self.address}/media/{name}"

    def missing(self) -> list[str]:
        """The paths that were asked for and are not there: a playlist named them too early."""
        return [r.path for r in self.requests if r.status == HTTPStatus.NOT_FOUND]

    def __enter__(self) -> MediaServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser hangs up when it pleases; anything else is a bug of this server."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            raise

    def resolve(self, path: str) -> Path | None:
        """The file behind a request path, or None where there is none."""
        name = unquote(path).lstrip("/")
        if ".." in name.split("/"):
            return None
        if name.startswith("media/"):
            file = self.root / name.removeprefix("media/")
        elif name.startswith("players/"):
            file = HERE / "node_modules" / name.removeprefix("players/")
        elif name in ("page.html", "page.js"):
            file = HERE / name
        else:
            return None
        return file if file.is_file() else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave in two writes: without this Nagle and delayed ACKs add 40 ms to each.
    disable_nagle_algorithm = True
    server: MediaServer

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if delay := self.server.delay_s(path):
            time.sleep(delay)
        file = self.server.resolve(path)
        if file is None:
            # Chromium asks every origin for its icon; that is not the player's doing.
            self._head(HTTPStatus.NO_CONTENT if path == "/favicon.ico" else HTTPStatus.NOT_FOUND)
            return
        try:
            self._send_file(file)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the player gave up this request: a seek or a switch

    def _send_file(self, file: Path) -> None:
        with file.open("rb") as body:
            size = body.seek(0, 2)
            first, last = _range(self.headers.get("Range"), size)
            if first >= size > 0:
                self._head(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"bytes */{size}")
                return
            partial = "Range" in self.headers and size > 0
            self._head(
                HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK,
                f"bytes {first}-{last}/{size}" if partial else None,
                file.suffix,
                last + 1 - first,
            )
            body.seek(first)
            left = last + 1 - first
            while left > 0 and (block := body.read(min(left, CHUNK_BYTES))):
                self.wfile.write(block)
                left -= len(block)

    def _head(
        self,
        status: HTTPStatus,
        content_range: str | None = None,
        suffix: str = "",
        length: int = 0,
    ) -> None:
        self.server.requests.append(Request(time.monotonic(), urlsplit(self.path).path, status))
        self.send_response(status)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(length))
        if length:
            self.send_header("Content-Type", TYPES.get(suffix, "application/octet-stream"))
            self.send_header("Accept-Ranges", "bytes")
        if content_range:
            self.send_header("Content-Range", content_range)
        self.send_header(
            "Cache-Control", "no-store" if suffix in (".m3u8", ".mpd", "") else "max-age=3600"
        )
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Requests are recorded, not printed."""


def _range(header: str | None, size: int) -> tuple[int, int]:
    """First and last byte of a ``Range`` header (RFC 9110, section 14.1.2), one range only."""
    if not header:
        return 0, size - 1
    first, _, last = header.removeprefix("bytes=").partition("-")
    if not first:
        return max(size - int(last), 0), size - 1
    return int(first), min(int(last), size - 1) if last else size - 1
