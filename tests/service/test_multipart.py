"""Forms read as they arrive, held against forms that another library writes."""

from __future__ import annotations

from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st
from urllib3.filepost import encode_multipart_formdata

from telecine.service.multipart import FilePart, FormReader

NAMES = st.text("abcdefghijklmnopqrstuvwxyzäöü_-", min_size=1, max_size=20)
# What looks like boundaries is what a reader may trip over.
BYTES = st.lists(
    st.one_of(st.binary(max_size=50), st.sampled_from([b"\r\n", b"--", b"XX", b"\r\n--XX", b"\r"]))
).map(b"".join)


@given(
    fields=st.dictionaries(NAMES, st.text(st.characters(codec="utf-8"), max_size=30), max_size=4),
    filename=NAMES,
    data=BYTES,
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_a_form_is_read_as_it_was_written(
    fields: dict[str, str], filename: str, data: bytes, cuts: list[int]
) -> None:
    """However it is cut into pieces."""
    boundary = "XX7f3a9"
    before = {name: value for name, value in fields.items() if name != "file"}
    wanted: list[tuple[str, str | tuple[str, bytes, str]]] = [*before.items()]
    wanted.append(("file", (filename, data, "video/mp4")))
    body, kind = encode_multipart_formdata(wanted, boundary=boundary)
    got = BytesIO()
    seen: list[tuple[FilePart, dict[str, str]]] = []

    def on_file(part: FilePart, so_far: dict[str, str]) -> BytesIO:
        seen.append((part, so_far))
        return got

    reader = FormReader(kind, on_file)
    at = turn = 0
    while at < len(body):
        size = cuts[turn % len(cuts)]
        reader.feed(body[at : at + size])
        at, turn = at + size, turn + 1
    reader.finish()
    assert seen == [(FilePart("file", filename, "video/mp4"), before)]
    assert got.getvalue() == data
