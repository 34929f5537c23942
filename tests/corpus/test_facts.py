"""Tracks, languages, subtitles, HDR and chapters of the corpus as its manifest names them: in the
probe, in the plan and in the words of the report.

What is right stands in facts.tsv, which is held against the manifest first. Here the files that
hold more than one picture and one sound; all of them where TELECINE_LONG=1 (`make test-corpus`).
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from contextlib import nullcontext, suppress
from fractions import Fraction
from pathlib import Path

import pytest
from tests.corpus.expected import read_expected
from tests.corpus.facts import Facts, Track, read_facts

from telecine.engine.errors import InputRefused
from telecine.engine.media import MediaInfo
from telecine.engine.plan import Plan
from telecine.engine.planning.make import make_plan
from telecine.engine.probe import probe
from telecine.engine.profile import make_profile, parse_output
from telecine.engine.report import describe
from telecine.engine.tools import Tools

FACTS = read_facts()
EXPECTED = read_expected(Path(__file__).parents[1] / "media" / "expected.tsv")
LONG = os.environ.get("TELECINE_LONG") == "1"
PATHS = [path for path, facts in FACTS.items() if LONG or facts.telling]

# ISO 639-2 → the tag of RFC 5646 and the name in English: all that the corpus says.
LANGUAGES = {None: (None, None), "eng": ("en", "English")}
BITMAPS = ("hdmv_pgs_subtitle",)


# --- the table and the manifest ------------------------------------------------------------------


def _manifest(corpus: Path) -> dict[str, dict[str, str]]:
    with (corpus / "manifest.tsv").open(encoding="utf-8", newline="") as lines:
        return {row["path"]: row for row in csv.DictReader(lines, delimiter="\t")}


# "v:h264(High),a:aac/2ch/48000,s:mov_text,d:mebx*2,pic:png,att:…"
ENTRY = re.compile(r"(v|a|s|d|pic|att):([^(/,*]+)(?:\([^)]*\))?(?:/(\d+)ch/(\d+))?(?:\*(\d+))?")


def _named(codecs: str) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    for kind, codec, channels, rate, times in ENTRY.findall(codecs):
        if kind == "att":
            found[(kind,)] += int(times or 1)  # the manifest gives no type
        else:
            found[(kind, codec.strip(), *filter(None, (channels, rate)))] += int(times or 1)
    return found


def _told(facts: Facts) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter(("v", one.codec) for one in facts.video)
    found.update(("a", one.codec, str(one.channels), str(one.sample_rate)) for one in facts.audio)
    found.update(("s", one.codec) for one in facts.subtitles if one.codec != "captions")
    kinds = {"cover": "pic", "data": "d"}
    for _, kind, codec in facts.other:
        found[(kinds[kind], codec) if kind in kinds else ("att",)] += 1
    return found


def test_the_table_says_what_the_manifest_names(corpus: Path) -> None:
    """Where it does not, a note says why."""
    manifest = _manifest(corpus)
    opened = {path for path, one in EXPECTED.items() if one.outcomes != ("refused",)}
    assert set(FACTS) == opened
    for path, facts in FACTS.items():
        named = manifest[path]
        details = named["details"]
        assert facts.note or _told(facts) == _named(named["codecs"]), path
        curve = {"smpte2084": "PQ", "arib-std-b67": "HLG"}.get(_word(details, "trc") or "")
        assert (facts.hdr[:1] or (None,))[0] == curve, path
        assert f"dovi={_word(details, 'dovi')}" in (*facts.hdr, "dovi=None"), path
        assert ("dovi=" in details) is any(word.startswith("dovi") for word in facts.hdr), path
        assert len(facts.chapters) == int(_word(details, "chapters") or 0), path
        transparent = any("alpha" in one.marks for one in facts.video)
        assert transparent == ("alpha_mode=1" in details), path
        captioned = any(one.codec == "captions" for one in facts.subtitles)
        assert captioned == ("captions" in named["trait"]), path


def _word(details: str, name: str) -> str | None:
    found = re.search(rf"\b{name}=(\S+)", details)
    return found[1] if found else None


# --- the table and Telecine ----------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_each_file_is_reported_as_it_is(path: str, corpus: Path, tools: Tools) -> None:
    facts = FACTS[path]
    info = probe(corpus / path, tools)
    _check_probe(info, facts)
    _check_words(describe(info), facts)
    hdr = make_profile((parse_output("hls"),), (240,), codecs=("h264", "hevc"), hdr=True)
    too_small = "refused" in EXPECTED[path].outcomes  # for an encoder: the other table allows it
    with suppress(InputRefused) if too_small else nullcontext():
        _check_plan(make_plan(info, hdr), facts)


def _check_probe(info: MediaInfo, facts: Facts) -> None:
    seen = [
        Track(
            one.index, one.codec, one.language,
            frozenset(["default"] * one.default + ["alpha"] * one.has_alpha),
            bits=one.bit_depth,
        )
        for one in info.video
    ]  # fmt: skip
    assert seen == list(facts.video)
    heard = [
        Track(
            one.index, one.codec, one.language, frozenset(["default"] * one.default), one.title,
            channels=one.channels, sample_rate=one.sample_rate,
        )
        for one in info.audio
    ]  # fmt: skip
    assert heard == list(facts.audio)
    texts = [
        Track(
            one.index,
            "captions" if one.kind == "captions" else one.codec,
            one.language,
            frozenset(["default"] * one.default + ["forced"] * one.forced),
            one.title,
        )
        for one in info.subtitles
    ]
    assert texts == list(facts.subtitles)
    assert [one.hearing_impaired for one in info.subtitles] == [
        one.codec == "captions" for one in facts.subtitles
    ]
    # What stands in an attachment is not told.
    known = [(n, kind, codec) for n, kind, codec in facts.other if kind != "attachment"]
    found = [(one.index, str(one.kind), one.codec) for one in info.other]
    assert [each for each in found if each[1] != "attachment"] == known
    assert Counter(kind for _, kind, _ in found) == Counter(kind for _, kind, _ in facts.other)
    assert [(one.start_s, one.end_s, one.title) for one in info.chapters] == list(facts.chapters)
    _check_hdr(info, facts)


def _check_hdr(info: MediaInfo, facts: Facts) -> None:
    if not facts.hdr:
        assert not any(one.color.hdr or one.light or one.dynamic for one in info.video)
        return
    (video,) = info.video
    assert video.color.transfer == {"PQ": "smpte2084", "HLG": "arib-std-b67"}[facts.hdr[0]]
    words = {name: text for name, _, text in (word.partition("=") for word in facts.hdr[1:])}
    dynamic = [f"Dolby Vision {words['dovi']}"] if "dovi" in words else []
    assert video.dynamic == (*dynamic, *["HDR10+"] * ("hdr10+" in words))
    light = video.light
    most = tuple(map(int, words["light"].split("/"))) if "light" in words else ()
    assert (light.content if light else ()) == most
    mastered = [Fraction(number) for number in words.get("mastered", "").split(",") if number]
    steps = [50_000] * 8 + [10_000] * 2  # as SMPTE ST 2086 counts them
    wanted = [number * step for number, step in zip(mastered, steps[: len(mastered)], strict=True)]
    # Four places of the ordinates, which is half of five steps.
    assert list(light.mastering if light else ()) == pytest.approx(wanted, abs=2.5)


def _check_words(lines: tuple[str, ...], facts: Facts) -> None:
    """Each track has its line in the report, which names codec, language and what it is."""
    told = list(lines[1:])
    for one in facts.video:
        line = told.pop(0)
        assert line.startswith(one.codec)
        for word in facts.hdr[:1]:
            assert f"HDR ({word}" in line
        for word in facts.hdr[1:]:
            if word.startswith("dovi="):
                assert f"Dolby Vision {word[5:]}" in line
            assert word != "hdr10+" or "HDR10+" in line
        assert facts.hdr or "HDR" not in line
    for one in facts.audio:
        line = told.pop(0)
        assert line.startswith(one.codec)
        assert f"{one.sample_rate / 1000:g} kHz" in line
        assert (one.language is None) == ("eng" not in line)
    for one in facts.subtitles:
        line = told.pop(0)
        assert line.startswith("subtitles: ")
        assert (one.codec if one.codec != "captions" else "inside the pictures") in line
        assert (one.language is None) == ("eng" not in line)
    for kind in ("cover", "data", "attachment"):
        codecs = [codec for _, its, codec in facts.other if its == kind]
        if codecs:
            line = told.pop(0)
            assert line.startswith(f"{len(codecs)} {kind}")
            assert kind == "attachment" or all(codec in line for codec in codecs)
    if facts.chapters:
        assert told.pop(0) == f"{len(facts.chapters)} chapters"
    assert told == []


def _check_plan(plan: Plan, facts: Facts) -> None:
    """Every track in its group with the language as a tag, one default; texts as renditions, what
    is none said; HDR beside SDR; the chapters."""
    stereo = [one for one in plan.sounds if one.group == "stereo"]
    assert [one.stream for one in stereo] == [one.index for one in facts.audio]
    tags = {one.index: LANGUAGES[one.language] for one in facts.audio}
    for sound in plan.sounds:
        tag, name = tags[sound.stream]
        assert sound.language == tag
        assert name is None or sound.title.startswith(name)
    assert [one.default for one in stereo] == [n == 0 for n in range(len(stereo))]
    surround = {one.stream for one in plan.sounds if one.group == "surround"}
    assert surround == {one.index for one in facts.audio if one.channels >= 6}
    texts = [one for one in facts.subtitles if one.codec not in BITMAPS]
    assert [(one.language, one.hearing_impaired) for one in plan.subtitles] == [
        (LANGUAGES[one.language][0], one.codec == "captions") for one in texts
    ]
    for track, one in zip(plan.subtitles, texts, strict=True):
        assert one.title is None or track.title == one.title
    left_out = [line for line in plan.warnings if re.match(r"subtitles .* left out", line)]
    assert len(left_out) == len(facts.subtitles) - len(texts)
    ranges = {one.codec: one.video_range for one in plan.renditions}
    if facts.video:
        assert ranges["h264"] == "SDR"
        # A picture may be too narrow for x265.
        assert ranges.get("hevc", "SDR") == (facts.hdr[0] if facts.hdr else "SDR")
        assert plan.tone_map == bool(facts.hdr)
    assert [(one.start_s, one.end_s, one.title) for one in plan.chapters] == list(facts.chapters)
