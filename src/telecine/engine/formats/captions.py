"""Pure: closed captions (CEA-608) as they lie inside coded pictures."""

from __future__ import annotations

import re

# ATSC A/53 part 4, 6.2.3: user data "GA94" of type 3, in H.264 and HEVC inside an SEI message of
# ITU-T T.35 (country 0xB5, provider 0x0031), in MPEG-2 behind a start code.
SEI_MARK = b"\xb5\x00\x31GA94\x03"
_CAPTIONS = re.compile(re.escape(SEI_MARK) + rb"|\x00\x00\x01\xb2GA94\x03", re.DOTALL)
_MOST_BYTES = 2 + 31 * 3
_STUFFING = b"\x00\x00\x03"


def caption_bytes(picture: bytes) -> bytes:
    """The caption data of a coded picture: three bytes each, as the decoder takes them."""
    found = []
    for mark in _CAPTIONS.finditer(picture):
        data = picture[mark.end() : mark.end() + 2 * _MOST_BYTES]
        if mark[0].startswith(b"\xb5"):
            data = data.replace(_STUFFING, b"\x00\x00")
        if len(data) > 2 and data[0] & 0x40:
            found.append(data[2 : 2 + 3 * (data[0] & 0x1F)])
    return b"".join(found)
