"""Boxes of MP4 by hand (ISO/IEC 14496-12, 4.2)."""

from __future__ import annotations


def atom(kind: str, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return (len(body) + 8).to_bytes(4, "big") + kind.encode() + body


def words(*values: int) -> bytes:
    """Each as 32 bits."""
    return b"".join(value.to_bytes(4, "big", signed=value < 0) for value in values)
