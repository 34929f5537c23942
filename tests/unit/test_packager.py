"""What the comparison with Shaka Packager lets pass, and that it sees the rest."""

from __future__ import annotations

from pathlib import Path

from bench.packager import EXPLAINED, boxes, differences

PAGE = Path(__file__).parents[2] / "docs" / "explain" / "packager.md"


def test_each_difference_that_is_let_pass_is_explained() -> None:
    headings = {line[3:] for line in PAGE.read_text().splitlines() if line.startswith("## ")}
    assert set(EXPLAINED.values()) == headings


def test_what_differs_is_seen_and_rates_may_differ_a_little() -> None:
    ours = {("CODECS", "a"): "x", ("BANDWIDTH", "a"): 1_000_000, ("BANDWIDTH", "b"): 1_000_000}
    theirs = {("CODECS", "a"): "y", ("BANDWIDTH", "a"): 1_009_000, ("BANDWIDTH", "b"): 1_011_000}
    assert list(differences(ours, {**theirs, ("MAP", "a"): "m"})) == [
        ("BANDWIDTH", "b", 1_000_000, 1_011_000),
        ("CODECS", "a", "x", "y"),
        ("MAP", "a", None, "m"),
    ]


def test_boxes_are_found_in_containers_and_sample_entries() -> None:
    def box(kind: bytes, body: bytes = b"") -> bytes:
        return (8 + len(body)).to_bytes(4, "big") + kind + body

    entry = box(b"avc1", bytes(78) + box(b"avcC"))
    data = box(b"ftyp", b"isom") + box(b"moov", box(b"stsd", bytes(8) + entry))
    assert list(boxes(data)) == [
        "/ftyp", "/moov", "/moov/stsd", "/moov/stsd/avc1", "/moov/stsd/avc1/avcC",
    ]  # fmt: skip
