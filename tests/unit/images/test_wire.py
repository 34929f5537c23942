"""`engine.images.wire`: messages as the pipes carry them, and strangers' bytes in their place."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecine.engine.errors import InputRefused, MediaError, StepFailed, UsageError
from telecine.engine.images.values import ImageLimits
from telecine.engine.images.wire import (
    Answer,
    Bytes,
    Incoming,
    Message,
    Request,
    Source,
    WireBroken,
    decode_answer,
    decode_request,
    encode_answer,
    encode_error,
    encode_request,
)

MOST = 1 << 20
REQUEST = Request(
    do="transform",
    source=Source("png", blobs=2, was="apng", header=True, delays_ms=(40,), transfer="bt709"),
    limits=ImageLimits(wall_s=3),
    operations="resize:w=10;watermark:image=logo",
    output="webp",
    names=("logo",),
    refs=(Source("jpeg"),),
)


def arrive(data: bytes, pieces: int = 1 << 20) -> Message:
    """`data` as a pipe gives it: never more than `pieces` bytes at once."""
    incoming = Incoming(MOST)
    while not incoming.done:
        room = incoming.room()
        assert len(room) > 0
        part = data[: min(len(room), pieces)]
        assert part, "the message wants more than there is"
        room[: len(part)] = part
        incoming.took(len(part))
        data = data[len(part) :]
    assert not data
    return incoming.message()


def framed(header: object, *blobs: bytes) -> bytes:
    """By hand, after the module's description."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(blobs)


def test_a_request_arrives_as_it_was_sent() -> None:
    blobs: list[Bytes] = [b"first frame", memoryview(b"the file"), bytearray(b"logo")]
    data = b"".join(encode_request(REQUEST, blobs))
    request, got = decode_request(arrive(data))
    assert request == replace(REQUEST, limits=ImageLimits(wall_s=3.0))
    assert got == [b"first frame", b"the file", b"logo"]


def test_no_blob_is_copied() -> None:
    blob = bytearray(1000)
    pieces = encode_request(Request("inspect", Source("gif"), ImageLimits()), [blob])
    assert pieces[1] is blob


def test_the_framing_is_the_described_one() -> None:
    header = {"facts": {"width": 3}, "warnings": ["cut off"]}
    answer = Answer({"width": 3}, ("cut off",), b"\x00\xffdata")
    assert decode_answer(arrive(framed({**header, "blobs": [6]}, b"\x00\xffdata"))) == answer
    written = b"".join(encode_answer(answer))
    length = struct.unpack("<Q", written[:8])[0]
    assert json.loads(written[8 : 8 + length]) == {**header, "blobs": [6]}
    assert written[8 + length :] == b"\x00\xffdata"


@given(
    st.lists(st.binary(max_size=40), max_size=5), st.integers(min_value=1, max_value=60), st.text()
)
def test_any_blobs_arrive_however_the_pipe_cuts_them(
    blobs: list[bytes], pieces: int, text: str
) -> None:
    source = Source("png", blobs=len(blobs), warnings=(text,))
    request = Request("inspect", source, ImageLimits())
    data = b"".join(encode_request(request, blobs))
    assert decode_request(arrive(data, pieces)) == (request, [bytearray(blob) for blob in blobs])


@pytest.mark.parametrize(
    ("sent", "code", "kind"),
    [
        (InputRefused("17000 × 17000", code="too_many_pixels"), "too_many_pixels", InputRefused),
        (UsageError("outside", code="crop_outside"), "crop_outside", UsageError),
        (StepFailed("no memory", code="image_limit"), "image_limit", StepFailed),
        (MediaError("what", code="no_such_code"), "image_failed", StepFailed),
    ],
)
def test_an_error_is_raised_again(sent: MediaError, code: str, kind: type[MediaError]) -> None:
    with pytest.raises(kind, match=sent.message) as caught:
        decode_answer(arrive(b"".join(encode_error(sent))))
    assert caught.value.code == code
    assert not caught.value.retryable


def test_words_of_a_child_are_harmless_to_print() -> None:
    said = {"facts": {}, "warnings": ["a\x1b[2Jb" + "c" * 600], "blobs": [0]}
    (warning,) = decode_answer(arrive(framed(said))).warnings
    assert warning == ("a\ufffd[2Jb" + "c" * 600)[:500]
    with pytest.raises(InputRefused) as caught:
        decode_answer(arrive(framed({"code": "image_damaged", "message": "\n", "blobs": []})))
    assert caught.value.message == "\ufffd"


NO_MESSAGES: dict[str, bytes] = {
    "an endless header": struct.pack("<Q", 1 << 62),
    "no header": struct.pack("<Q", 0),
    "no JSON": framed(b"\xff\xfe"),
    "JSON without end": framed(b"[" * 900_000),
    "a list": framed([1]),
    "no lengths": framed({"facts": {}}),
    "lengths that are no list": framed({"blobs": "12"}),
    "a length that is no number": framed({"blobs": ["1"]}),
    "a length that is true": framed({"blobs": [True]}),
    "a negative length": framed({"blobs": [-1, 5]}),
    "more than is allowed": framed({"blobs": [MOST, 1]}),
    "ten thousand blobs and one": framed({"blobs": [0] * 10_001}),
}


@pytest.mark.parametrize("data", NO_MESSAGES.values(), ids=NO_MESSAGES)
def test_what_is_no_message_is_refused_before_it_is_waited_for(data: bytes) -> None:
    with pytest.raises(WireBroken):
        arrive(data)


NO_ANSWERS: dict[str, Any] = {
    "nothing": {"blobs": []},
    "an unknown code": {"code": "sudo", "message": "x", "blobs": []},
    "a code that is a list": {"code": [], "message": "x", "blobs": []},
    "a message that is none": {"code": "image_failed", "message": 1, "blobs": []},
    "no data": {"facts": {}, "warnings": [], "blobs": []},
    "facts that are none": {"facts": 1, "warnings": [], "blobs": [0]},
    "warnings that are none": {"facts": {}, "warnings": 1, "blobs": [0]},
    "a warning that is none": {"facts": {}, "warnings": [1], "blobs": [0]},
}


@pytest.mark.parametrize("header", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_is_no_answer_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(WireBroken):
        decode_answer(arrive(framed(header)))


def test_what_is_no_request_is_refused() -> None:
    for request, blobs in (
        (replace(REQUEST, refs=(), names=("logo",)), [b"", b""]),
        (REQUEST, [b"one too few", b""]),
    ):
        with pytest.raises(WireBroken, match="fit together"):
            decode_request(arrive(b"".join(encode_request(request, blobs))))
    with pytest.raises(WireBroken, match="expected the fields"):
        decode_request(arrive(framed({"do": "transform", "blobs": []})))


def test_a_header_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(WireBroken, match="a header of"):
        encode_answer(Answer({"exif": "x" * MOST}))
