"""What is known of formats, and which one answers an `Accept` header."""

from __future__ import annotations

import mimetypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecine.engine.errors import UsageError
from telecine.engine.images.formats import FORMATS, WRITTEN, by_extension, negotiate, written


def test_what_is_written() -> None:
    assert WRITTEN == ("jpeg", "png", "webp", "avif", "gif", "tiff")
    assert {name for name in WRITTEN if FORMATS[name].animated} == {"webp", "gif"}
    assert {name for name in WRITTEN if not FORMATS[name].alpha} == {"jpeg"}
    assert {name for name in WRITTEN if FORMATS[name].quality is not None} == {
        "jpeg", "webp", "avif",
    }  # fmt: skip
    assert all(FORMATS[name].reader == "vips" for name in WRITTEN)


def test_who_reads_what_the_wheel_of_libvips_cannot() -> None:
    by_ffmpeg = {name for name, each in FORMATS.items() if each.reader == "ffmpeg"}
    assert by_ffmpeg == {
        "apng", "avif-sequence", "heic", "heic-sequence", "jxl", "jp2", "j2k", "bmp", "ico", "psd",
    }  # fmt: skip
    assert [name for name, each in FORMATS.items() if each.reader == "svg"] == ["svg"]


@pytest.mark.parametrize("name", WRITTEN)
def test_content_types_are_those_of_the_standard_library(name: str) -> None:
    types = mimetypes.MimeTypes()
    types.add_type("image/avif", ".avif")  # Python 3.11 knows neither: IANA's registry does
    types.add_type("image/webp", ".webp")
    assert types.guess_type(f"a.{FORMATS[name].extensions[0]}")[0] == FORMATS[name].content_type


@pytest.mark.parametrize(
    ("ending", "name"),
    [("jpg", "jpeg"), (".JPEG", "jpeg"), ("tif", "tiff"), (".avif", "avif"), ("HEIC", "heic"),
     ("bmp", "bmp"), ("mp4", None), ("", None)],
)  # fmt: skip
def test_by_extension(ending: str, name: str | None) -> None:
    found = by_extension(ending)
    assert (found.name if found else None) == name


def test_no_ending_names_two_formats() -> None:
    endings = [ending for each in FORMATS.values() for ending in each.extensions]
    assert len(endings) == len(set(endings))


def test_a_wanted_format_by_name_or_ending() -> None:
    assert written("jpg") is written("jpeg") is FORMATS["jpeg"]
    assert written("TIF") is FORMATS["tiff"]


@pytest.mark.parametrize("name", ["heic", "svg", "jxl", "auto", "", "x" * 5000, "a\nb"])
def test_what_is_not_written_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="choose from jpeg, png, webp, avif, gif, tiff") as refused:
        written(name)
    assert refused.value.code == "format_unknown"
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 200


# What browsers send for <img>: MDN, "Default Accept values".
CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
FIREFOX = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
FIREFOX_65 = "image/webp,*/*"
SAFARI = "image/webp,image/avif,video/*;q=0.8,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
EXPLORER = "image/png, image/svg+xml, image/*;q=0.8, */*;q=0.5"

ANSWERS = [
    # (Accept, still, still with alpha, animation)
    (CHROME, "avif", "avif", "webp"),
    (FIREFOX, "avif", "avif", "webp"),
    (FIREFOX_65, "webp", "webp", "webp"),
    (SAFARI, "avif", "avif", "webp"),
    (EXPLORER, "jpeg", "png", "gif"),
    (None, "jpeg", "png", "gif"),
    ("", "jpeg", "png", "gif"),
    ("*/*", "jpeg", "png", "gif"),  # curl
    ("image/*", "jpeg", "png", "gif"),
    ("text/html", "jpeg", "png", "gif"),
    ("image/webp", "webp", "webp", "webp"),
    ("IMAGE/WebP ; Q=0.1", "webp", "webp", "webp"),
    ("image/avif", "avif", "avif", "gif"),
    # The weight counts before our own order.
    ("image/avif;q=0.5,image/webp", "webp", "webp", "webp"),
    ("image/avif;q=0.5,image/webp;q=0.5", "avif", "avif", "webp"),
    ("image/webp;q=0.5,image/jpeg,image/png;q=0.4", "jpeg", "webp", "webp"),
    ("image/webp;q=0.5,image/*", "jpeg", "png", "gif"),
    ("image/webp;q=0.5,*/*;q=0.6", "jpeg", "png", "gif"),
    ("image/webp;q=0.5,image/*;q=0.4,*/*", "webp", "webp", "webp"),  # the nearest range counts
    # 0 means never.
    ("image/avif;q=0,image/webp;q=0.0,*/*", "jpeg", "png", "gif"),
    ("image/webp;q=0", "jpeg", "png", "gif"),
    ("image/jpeg;q=0,image/webp;q=0.001", "webp", "webp", "webp"),
    # Twice: the higher; other parameters mean nothing.
    ("image/webp;q=0,image/webp;q=0.3", "webp", "webp", "webp"),
    ("image/webp;q=0.9,image/webp;q=0", "webp", "webp", "webp"),
    ("image/webp;v=1;q=1.000", "webp", "webp", "webp"),
    # What is no weight makes the element unreadable.
    ("image/avif;q=2,image/webp;q=0.1", "webp", "webp", "webp"),
    ("image/avif;q=0.1234,image/webp;q=-1,;,;;q=,image/webp;q=.5", "jpeg", "png", "gif"),
]


@pytest.mark.parametrize(("accept", "still", "alpha", "animation"), ANSWERS)
def test_the_answer_to_accept(accept: str | None, still: str, alpha: str, animation: str) -> None:
    assert negotiate(accept, animated=False, alpha=False) == still
    assert negotiate(accept, animated=False, alpha=True) == alpha
    assert negotiate(accept, animated=True, alpha=False) == animation
    assert negotiate(accept, animated=True, alpha=True) == animation


@given(st.text() | st.text("image/webpavif*,;q=0.1 "), st.booleans(), st.booleans())
def test_any_header_has_an_answer_that_holds_the_picture(
    accept: str, animated: bool, alpha: bool
) -> None:
    answer = FORMATS[negotiate(accept, animated=animated, alpha=alpha)]
    assert answer.written
    assert answer.animated or not animated
    assert answer.alpha or not alpha
