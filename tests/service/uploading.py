"""What the tests of uploads send."""

from __future__ import annotations

import io
import math
import struct
import wave
from base64 import b64encode

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
