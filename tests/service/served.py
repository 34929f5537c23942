"""The application behind a real server in a thread of this process, and requests to it that are
sent byte by byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tests.waiting import until


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
        until(lambda: server.started)
        yield served
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()


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
