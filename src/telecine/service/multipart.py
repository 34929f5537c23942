"""`multipart/form-data` (RFC 7578) as it arrives: small fields are kept, files go straight to who
takes them. Nothing is spooled, and memory does not grow with a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from telecine.service.domain import Invalid

MAX_FIELDS = 50
MAX_FIELD_BYTES = 64 * 1024
MAX_HEADERS_BYTES = 8 * 1024  # of one part


@dataclass(frozen=True, slots=True)
class FilePart:
    """What a form says of a file before its bytes."""

    name: str
    filename: str
    content_type: str


class Sink(Protocol):
    """Takes a file's bytes."""

    def write(self, data: bytes) -> object: ...


class FormReader:
    """Reads one form, fed in pieces of any size by one thread at a time.

    `on_file` is called when a file begins, with the fields that came before it; what it raises ends
    the reading. `fields` are all fields so far, the last of a name.
    """

    def __init__(
        self, content_type: str, on_file: Callable[[FilePart, dict[str, str]], Sink]
    ) -> None:
        """Raises `Invalid` (`form_invalid`) where the header names no multipart form."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind.lower() != b"multipart/form-data" or not 1 <= len(boundary) <= 70:
            raise _invalid("the body is no multipart/form-data with a boundary")
        self.fields: dict[str, str] = {}
        self.complete = False
        self._on_file = on_file
        self._header: dict[bytes, bytes] = {}
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._header_bytes = 0
        self._parts = 0
        self._field: tuple[str, bytearray] | None = None
        self._sink: Sink | None = None
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._take_header_name,
                "on_header_value": self._take_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._take_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Raises `Invalid`: `form_invalid`, `form_too_large`; and what the file's taker raises."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _invalid(f"the form cannot be read: {error}") from None

    def finish(self) -> None:
        """All bytes were fed. Raises `Invalid` (`form_invalid`) where the form has no end."""
        if not self.complete:
            raise _invalid("the form ends before its last boundary")

    # --- the parser calls these

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > MAX_FIELDS:
            raise Invalid(f"a form of more than {MAX_FIELDS} fields", code="form_too_large")
        self._header.clear()
        self._header_bytes = 0

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += self._counted(data[start:end])

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += self._counted(data[start:end])

    def _counted(self, data: bytes) -> bytes:
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADERS_BYTES:
            raise Invalid("a field's headers are too long", code="form_too_large")
        return data

    def _end_header(self) -> None:
        self._header[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _end_headers(self) -> None:
        kind, options = parse_options_header(self._header.get(b"content-disposition", b""))
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            raise _invalid("a field without a name")
        filename = options.get(b"filename")
        if filename is None:
            self._field = (_text(name), bytearray())
            return
        content_type = self._header.get(b"content-type", b"")
        part = FilePart(_text(name), _text(filename), _text(content_type))
        self._sink = self._on_file(part, dict(self.fields))

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._sink is not None:
            self._sink.write(data[start:end])
        elif self._field is not None:
            name, value = self._field
            value += data[start:end]
            if len(value) > MAX_FIELD_BYTES:
                raise Invalid(
                    f"the field {name[:40]!r} has more than {MAX_FIELD_BYTES} bytes",
                    code="form_too_large",
                )

    def _end_part(self) -> None:
        if self._field is not None:
            name, value = self._field
            self.fields[name] = _text(bytes(value))
        self._field = self._sink = None

    def _end(self) -> None:
        self.complete = True


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _invalid(message: str) -> Invalid:
    return Invalid(message, code="form_invalid")
