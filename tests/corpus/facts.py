"""What each file of the media corpus holds: tests/corpus/facts.tsv.

Written down from `manifest.tsv`, Debian's ffprobe 5.1 and mediainfo 23.04, by hand where these
differ (then `note` says what was taken and why), never from what Telecine says. A cell is "-" or
has an entry a stream, parted by "; ", of what stands between colons:

    video      number, codec, bits, language, then what the file marks: default, alpha
    hdr        PQ or HLG, then dovi=profile.compatibility, hdr10+, light=MaxCLL/MaxFALL,
               mastered=x and y of green, blue, red and white, most and least cd/m²
    audio      number, codec, channels, Hz, language, default; "=" and its title
    subtitles  number, codec ("captions": inside the pictures), language, default; "=" and its title
    other      number, kind, codec (of an attachment its MIME type)
    chapters   start-end title, in seconds
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

TABLE = Path(__file__).with_name("facts.tsv")


@dataclass(frozen=True, slots=True)
class Track:
    """One stream; fields that its kind does not have keep what they are here."""

    index: int
    codec: str
    language: str | None = None
    marks: frozenset[str] = frozenset()
    title: str | None = None
    bits: int = 0
    channels: int = 0
    sample_rate: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    path: str
    video: tuple[Track, ...]
    hdr: tuple[str, ...]
    audio: tuple[Track, ...]
    subtitles: tuple[Track, ...]
    other: tuple[tuple[int, str, str], ...]  # number, kind, codec
    chapters: tuple[tuple[Fraction, Fraction, str], ...]
    note: str

    @property
    def telling(self) -> bool:
        """Whether it holds more than a picture and a sound without a name."""
        several = len(self.video) > 1 or len(self.audio) > 1
        tagged = any(one.codec == "vp9" and one.language for one in self.video)
        return bool(self.hdr or self.subtitles or self.other or self.chapters or several or tagged)


def read_facts(table: Path = TABLE) -> dict[str, Facts]:
    with table.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["path"]: _facts(row) for row in rows}


def _facts(row: dict[str, str]) -> Facts:
    cell = {name: [] if text == "-" else text.split("; ") for name, text in row.items()}
    return Facts(
        path=row["path"],
        video=tuple(map(_video, cell["video"])),
        hdr=() if row["hdr"] == "-" else tuple(row["hdr"].split(" ")),
        audio=tuple(map(_audio, cell["audio"])),
        subtitles=tuple(map(_subtitles, cell["subtitles"])),
        other=tuple(map(_other, cell["other"])),
        chapters=tuple(map(_chapter, cell["chapters"])),
        note="" if row["note"] == "-" else row["note"],
    )


def _video(entry: str) -> Track:
    index, codec, bits, language, *marks = entry.split(":")
    return Track(int(index), codec, _said(language), frozenset(marks), bits=int(bits))


def _audio(entry: str) -> Track:
    entry, _, title = entry.partition("=")
    index, codec, channels, rate, language, *marks = entry.split(":")
    return Track(
        int(index), codec, _said(language), frozenset(marks), title or None,
        channels=int(channels), sample_rate=int(rate),
    )  # fmt: skip


def _subtitles(entry: str) -> Track:
    entry, _, title = entry.partition("=")
    index, codec, language, *marks = entry.split(":")
    return Track(int(index), codec, _said(language), frozenset(marks), title or None)


def _other(entry: str) -> tuple[int, str, str]:
    index, kind, codec = entry.split(":")
    return int(index), kind, codec


def _chapter(entry: str) -> tuple[Fraction, Fraction, str]:
    times, _, title = entry.partition(" ")
    start, _, end = times.partition("-")
    return Fraction(start), Fraction(end), title


def _said(language: str) -> str | None:
    return None if language == "-" else language
