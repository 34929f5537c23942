"""What the tests of uploads send, and a real server in a thread to send it to."""

from __future__ import annotations

import io
import math
import socket
import struct
import threading
import time
import wave
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OFFSET_TYPE = "application/offset+octet-stream"


def song(seconds: float = 2.0, rate: int = 8000) -> bytes:
    """A WAV file: media that needs no encoder, of exactly this duration."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        samples = (int(9000 * math.sin(n / 7)) for n in range(int(seconds * rate)))
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return out.getvalue()


def tus(login: dict[str, str], **more: str) -> dict[str, str]:
    """Headers of a tus request; `upload_offset="0"` becomes `Upload-Offset: 0`."""
    named = {name.replace("_", "-").title(): value for name, value in more.items()}
    return {**login, "Tus-Resumable": "1.0.0", **named}


def patch(login: dict[str, str], offset: int, **more: str) -> dict[str, str]:
    return tus(login, upload_offset=str(offset), content_type=OFFSET_TYPE, **more)


def metadata(**values: str) -> str:
    return ",".join(
        f"{name} {b64encode(value.encode()).decode()}" for name, value in values.items()
    )


def multipart(boundary: str, fields: dict[str, str], filename: str, data: bytes) -> bytes:
    """A form with its file last, written by hand as RFC 7578 has it."""
    lines = b""
    for name, value in fields.items():
        lines += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        ).encode()
    lines += (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
        "Content-Type: audio/wav\r\n\r\n"
    ).encode()
    return lines + data + f"\r\n--{boundary}--\r\n".encode()


@dataclass
class Served:
    """Where it listens, and how many bytes of body each request's route was given."""

    host: str
    port: int
    taken: dict[str, int] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=20)


@contextmanager
def serving(app: FastAPI) -> Iterator[Served]:
    """The application behind a real server, on a free port."""
    listening = socket.create_server(("127.0.0.1", 0))
    served = Served("127.0.0.1", listening.getsockname()[1])
    config = uvicorn.Config(
        _counting(app, served), log_config=None, lifespan="off", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield served
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()


def eventually(what: Callable[[], object], *, within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _counting(app: ASGIApp, served: Served) -> ASGIApp:
    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]

        async def receive_counted() -> Message:
            message = await receive()
            served.taken[path] = served.taken.get(path, 0) + len(message.get("body", b""))
            return message

        await app(scope, receive_counted, send)

    return counted


@dataclass(frozen=True)
class Answered:
    status: int
    head: str
    body: bytes
    closed: bool  # by the server, after the answer


def send_raw(served: Served, head: str, pieces: Iterable[bytes] = ()) -> Answered:
    """Send a request head and then pieces until they end or the server closes; what it said."""
    with served.connect() as connection:
        connection.sendall(head.replace("\n", "\r\n").encode())
        try:
            for piece in pieces:
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return read_answer(connection)


def read_answer(connection: socket.socket) -> Answered:
    data = b""
    closed = False
    try:
        while True:
            if (found := _whole(data)) and not closed:
                connection.settimeout(2)
            piece = connection.recv(65536)
            if not piece:
                closed = True
                break
            data += piece
    except ConnectionResetError:
        closed = True
    except TimeoutError:
        pass
    found = _whole(data)
    if found is None:
        return Answered(0, data.decode("latin-1"), b"", closed)
    head, body = found
    return Answered(int(head.split()[1]), head, body, closed)


def _whole(data: bytes) -> tuple[str, bytes] | None:
    while data.startswith(b"HTTP/1.1 100") and b"\r\n\r\n" in data:
        data = data.partition(b"\r\n\r\n")[2]
    head, end, body = data.partition(b"\r\n\r\n")
    return (head.decode("latin-1"), body) if end else None


def chunked(total: int, piece: int = 65536) -> Iterator[bytes]:
    """`total` zero bytes in HTTP chunks, and the last chunk."""
    for start in range(0, total, piece):
        size = min(piece, total - start)
        yield f"{size:x}\r\n".encode() + bytes(size) + b"\r\n"
    yield b"0\r\n\r\n"
