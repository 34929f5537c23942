"""What the pictures of the corpus are held against: expected.tsv, and the programs it names.

No engine is involved: these tests say whether a comparison with a reference means anything.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.media.images import references
from tests.media.images.colour import compare
from tests.media.images.expecting import LONG, Expected, read_expected

TABLE = read_expected()


def test_the_table_knows_every_picture(corpus: Path) -> None:
    found = {
        path.relative_to(corpus).as_posix()
        for folder in ("image", "bad")
        for path in (corpus / folder).rglob("*")
        if path.is_file()
    }
    assert set(TABLE) == found


@pytest.mark.thorough
@pytest.mark.needs("convert", "identify", "djxl", "heif-convert", "opj_decompress")
@pytest.mark.needs("rsvg-convert", "ffmpeg", "ffprobe", "tone_map")
@pytest.mark.parametrize(
    "expected",
    [one for one in TABLE.values() if one.readers and (LONG or not one.large)],
    ids=lambda one: one.path,
)
def test_other_programs_see_what_the_table_says(expected: Expected, corpus: Path) -> None:
    first, *others = (references.read(corpus / expected.path, name) for name in expected.readers)
    assert first.frames[0].shape == (expected.height, expected.width, 4)
    assert len(first.frames) == expected.frames
    assert first.delays_ms == expected.delays_ms
    if not first.partial:
        assert expected.alpha == any(int(frame[..., 3].min()) < 255 for frame in first.frames)
    for other in others:
        for number in {0, min(len(first.frames), len(other.frames)) - 1}:
            one, another = references.known(first, first.frames[number], other.frames[number])
            assert not compare(one, another).beyond()
