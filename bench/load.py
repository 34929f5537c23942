"""A load generator: asks one server for many pictures, so many at a time, each on a connection of
its own, as a reverse proxy without kept connections does.

Run as a program of its own (`python -m bench.load`, an `Order` as JSON on stdin, a `Told` as JSON
on stdout), so that what it takes itself is known and no thread of the bench delays it. One thread,
one epoll, no HTTP library: those cost more than an answer from a warm cache does.
"""

from __future__ import annotations

import json
import resource
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

PATIENCE_S = 60
_READ_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Order:
    port: int  # of 127.0.0.1
    paths: list[str]
    concurrency: int
    accept: str = "*/*"


@dataclass(slots=True)
class Told:
    """`taken_s`: from before the connection to the answer's last byte, in order of the answers."""

    taken_s: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    body_bytes: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0  # the generator's own


class Broken(Exception):
    """The server closed a connection early, or said nothing for too long."""


class _Asking:
    """One request on its way."""

    def __init__(self, port: int, request: bytes) -> None:
        self.began_s = time.perf_counter()
        self.request = request
        self.answer = bytearray()
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", port))

    def read(self) -> bool:
        """Take what there is; whether the answer is whole."""
        while True:
            try:
                piece = self.socket.recv(_READ_BYTES)
            except BlockingIOError:
                return False
            if not piece:
                return True
            self.answer += piece


def run(order: Order) -> Told:
    """Raises `Broken`."""
    told = Told()
    requests = _requests(order)
    began_s, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    with selectors.EpollSelector() as selector:

        def begin() -> None:
            request = next(requests, None)
            if request is not None:
                asking = _Asking(order.port, request)
                selector.register(asking.socket, selectors.EVENT_WRITE, asking)

        for _ in range(order.concurrency):
            begin()
        while selector.get_map():
            ready = selector.select(PATIENCE_S)
            if not ready:
                raise Broken(f"nothing came for {PATIENCE_S} s")
            for key, events in ready:
                asking: _Asking = key.data
                if events & selectors.EVENT_WRITE:
                    asking.socket.sendall(asking.request)
                    selector.modify(asking.socket, selectors.EVENT_READ, asking)
                elif asking.read():
                    selector.unregister(asking.socket)
                    asking.socket.close()
                    _note(told, asking)
                    begin()
    after = resource.getrusage(resource.RUSAGE_SELF)
    told.wall_s = time.perf_counter() - began_s
    told.cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return told


def _requests(order: Order) -> Iterator[bytes]:
    head = f"Host: 127.0.0.1:{order.port}\r\nAccept: {order.accept}\r\nConnection: close\r\n\r\n"
    return (f"GET {path} HTTP/1.1\r\n{head}".encode() for path in order.paths)


def _note(told: Told, asking: _Asking) -> None:
    told.taken_s.append(time.perf_counter() - asking.began_s)
    head, empty_line, body = bytes(asking.answer).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    length = next((ln for ln in lines if ln.lower().startswith(b"content-length:")), None)
    if not empty_line or length is None or int(length.split(b":")[1]) != len(body):
        raise Broken(f"an answer that is not whole: {bytes(asking.answer[:200])!r}")
    status = lines[0].split()[1].decode()
    told.statuses[status] = told.statuses.get(status, 0) + 1
    told.body_bytes += len(body)


def main() -> int:
    try:
        told = run(Order(**json.load(sys.stdin)))
    except (Broken, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    json.dump(asdict(told), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
