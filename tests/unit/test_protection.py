"""What may be asked of protection, what a plan keeps of it, and what players are told."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from tests.unit import sources
from tests.unit.test_manifests import codecs_of, segments_of, texts_of

from telecine.cli import parse
from telecine.engine import manifests
from telecine.engine.errors import UsageError
from telecine.engine.formats import playlist
from telecine.engine.formats.mpd import ContentProtection, parse_mpd, write_mpd
from telecine.engine.formats.playlist import Key, parse_media, write_media
from telecine.engine.plan import Plan, plan_from_json
from telecine.engine.planning import make_plan
from telecine.engine.profile import make_profile, parse_output
from telecine.engine.protection import lock_of, rendition_iv, segment_iv
from telecine.engine.report import protected
from telecine.engine.words.protection import (
    ContentKey,
    Protection,
    make_protection,
    parse_key,
    see_key,
    uri_from,
)

SECRET = "101112131415161718191a1b1c1d1e1f"
KEY = parse_key(SECRET.encode())
OTHER = parse_key(bytes(16))
KEY_ID = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
URI = "https://keys.example/1"


def protection_by(scheme: str, uri: str = URI) -> Protection:
    return make_protection(scheme, uri, KEY, KEY_ID)


def plan_by(scheme: str, uri: str = URI) -> Plan:
    profile = make_profile(top="encode", protection=protection_by(scheme, uri))
    return make_plan(sources.COMPLIANT, profile)


# --- words ----------------------------------------------------------------------------------------


def test_a_key_is_its_bytes_or_their_digits() -> None:
    assert parse_key(bytes.fromhex(SECRET)) == KEY
    assert parse_key(f" {SECRET.upper()}\n".encode()) == KEY


@pytest.mark.parametrize("data", [b"", b"abc", bytes(15), bytes(32), SECRET[:-1].encode()])
def test_what_is_no_key_is_refused_and_not_told(data: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        parse_key(data)
    assert caught.value.code == "content_key_invalid"
    assert "1011" not in caught.value.message


def test_a_key_stands_in_no_text() -> None:
    text = f"{KEY} {KEY!r} {[KEY]} {lock_of(plan_by('cbcs'), 'aac', KEY)!r}"
    assert SECRET not in text
    assert str(KEY.data) not in text


def test_a_protection_has_the_number_of_its_key() -> None:
    found = protection_by("cbcs")
    assert (found.scheme, found.key_id) == ("cbcs", KEY_ID.replace("-", ""))
    # Where it has none of its own it has one of the key's, and another key has another.
    own = [make_protection("cbcs", URI, key).key_id for key in (KEY, KEY, OTHER)]
    assert own[0] == own[1] != own[2]
    assert len(own[0]) == 32


@pytest.mark.parametrize(
    ("scheme", "uri", "key_id", "code"),
    [
        ("cenc", URI, None, "protection_unknown"),
        ("cbcs", URI, "12", "key_id_invalid"),
        ("cbcs", "", None, "key_uri_invalid"),
        ("cbcs", 'a"b', None, "key_uri_invalid"),
        ("cbcs", "a b", None, "key_uri_invalid"),
        ("cbcs", "a\nb", None, "key_uri_invalid"),
        ("cbcs", "x" * 2001, None, "key_uri_invalid"),
        ("cbcs", "Data:text/plain;base64,AAAA", None, "key_uri_invalid"),
    ],
)
def test_words_that_are_none(scheme: str, uri: str, key_id: str | None, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_protection(scheme, uri, KEY, key_id)
    assert caught.value.code == code


def test_the_wrong_key_is_told_from_the_right_one() -> None:
    found = protection_by("cbcs")
    assert see_key(found, KEY) == KEY
    assert see_key(None, None) is None
    for key, code in ((None, "key_missing"), (OTHER, "key_mismatch")):
        with pytest.raises(UsageError) as caught:
            see_key(found, key)
        assert caught.value.code == code
        assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("uri", "told"),
    [("key.bin", "../../key.bin"), ("/keys/1", "/keys/1"), (URI, URI), ("skd://1", "skd://1")],
)
def test_a_relative_uri_counts_from_the_multivariant_playlist(uri: str, told: str) -> None:
    assert uri_from(protection_by("cbcs", uri), "video/720p") == told
    assert uri_from(protection_by("cbcs", "key.bin"), ".").startswith("../key")


@pytest.mark.parametrize(
    ("outputs", "codecs", "scheme", "code"),
    [
        (("hls", "mp4:720p"), ("h264",), "cbcs", "protection_clear_file"),
        (("hls", "mp3"), ("h264",), "aes-128", "protection_clear_file"),
        (("poster",), ("h264",), "aes-128", "protection_without_hls"),
        (("hls",), ("h264", "av1"), "cbcs", "protection_codec"),
        (("hls",), ("hevc", "av1"), "cbcs", "protection_codec"),
    ],
)
def test_what_cannot_be_protected_is_refused(
    outputs: tuple[str, ...], codecs: tuple[str, ...], scheme: str, code: str
) -> None:
    wanted = tuple(map(parse_output, outputs))
    with pytest.raises(UsageError) as caught:
        make_profile(wanted, codecs=codecs, protection=protection_by(scheme))
    assert caught.value.code == code


def test_whole_segments_may_be_of_any_codec() -> None:
    profile = make_profile(codecs=("h264", "av1", "hevc"), protection=protection_by("aes-128"))
    assert profile.protection is not None


# --- the command line -----------------------------------------------------------------------------


def test_the_command_reads_the_key_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET)
    line = ["plan", "a.mp4", "--protect", "cbcs", "--key-file", str(file)]
    asked = parse([*line, "--key-uri", URI, "--key-id", KEY_ID])
    assert asked.key == KEY
    assert asked.profile.protection == protection_by("cbcs")
    assert SECRET not in str(asked)
    for words, code in (
        (line, "key_missing"),
        (["plan", "a.mp4", "--key-file", str(file)], "key_without_protect"),
        (["plan", "a.mp4", "--protect", "cbcs", "--key-uri", URI], "key_missing"),
        (["plan", "a.mp4", "--key-file", str(tmp_path / "none")], "content_key_invalid"),
    ):
        with pytest.raises(UsageError) as caught:
            parse(words)
        assert caught.value.code == code
    verify = parse(["verify", "x", "--key-file", str(file)])
    assert (verify.key, verify.profile.protection) == (KEY, None)


# --- plans ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["aes-128", "cbcs"])
def test_a_plan_holds_no_key(scheme: str) -> None:
    plan = plan_by(scheme)
    text = plan.to_json()
    assert plan_from_json(text) == plan
    assert SECRET not in text
    report = protected(plan)
    assert report is not None
    assert (report.scheme, report.key_uri) == (scheme, URI)
    assert protected(make_plan(sources.COMPLIANT, make_profile())) is None


def test_dash_knows_no_whole_segments() -> None:
    plan = plan_by("aes-128")
    assert not plan.dash
    assert any("manifest.mpd" in warning for warning in plan.warnings)
    assert plan_by("cbcs").dash
    assert not any("manifest.mpd" in warning for warning in plan_by("cbcs").warnings)


def test_no_iv_comes_twice_and_each_follows_from_the_plan() -> None:
    plan, again = plan_by("aes-128"), plan_by("aes-128")
    names = manifests.finished_names(plan)
    ivs = [segment_iv(plan, name, number) for name in names for number in range(50)]
    ivs += [rendition_iv(plan, name) for name in names]
    ivs += [segment_iv(plan_by("cbcs"), name, 0) for name in names]
    assert len(set(ivs)) == len(ivs)
    assert all(len(iv) == 16 for iv in ivs)
    assert segment_iv(again, names[0], 7) == segment_iv(plan, names[0], 7)


def test_nothing_locks_what_is_not_protected() -> None:
    assert lock_of(make_plan(sources.COMPLIANT, make_profile()), "aac", None) is None
    lock = lock_of(plan_by("aes-128"), "aac", KEY)
    assert lock is not None
    assert lock.encryption is None
    voice = lock_of(plan_by("cbcs"), "aac", KEY)
    assert voice is not None
    assert voice.encryption is not None
    assert voice.encryption.pattern == (0, 0)
    assert voice.seal_segment(0, b"sealed before") == b"sealed before"


# --- playlists ------------------------------------------------------------------------------------


def test_every_whole_segment_has_an_iv_of_its_own_in_every_playlist() -> None:
    plan = plan_by("aes-128", "key.bin")
    name = plan.listed[0].name
    segments = segments_of(plan, name)
    finished = parse_media(manifests.finished_media(plan, name, segments))
    growing = parse_media(manifests.growing_media(plan, name, segments, ended=False))
    wanted = [
        (Key("AES-128", "../../key.bin", segment_iv(plan, name, n)),) for n in range(len(segments))
    ]
    assert [entry.keys for entry in finished.segments] == wanted
    assert [entry.keys for entry in growing.segments] == wanted
    pictures = parse_media(manifests.iframes(plan, name, segments)).segments
    by_file = {entry.uri: entry.keys for entry in finished.segments}
    assert all(entry.keys == by_file[entry.uri] for entry in pictures)
    short = manifests.growing_media(plan, name, segments[:1], ended=False)
    assert manifests.growing_media(plan, name, segments, ended=False).startswith(short)


def test_samples_have_the_renditions_key() -> None:
    plan = plan_by("cbcs")
    text = manifests.finished_media(plan, "aac", segments_of(plan, "aac"))
    assert text.count("#EXT-X-KEY") == 1
    assert text.index("#EXT-X-MAP") < text.index("#EXT-X-KEY") < text.index("#EXTINF")
    keys = {entry.keys for entry in parse_media(text).segments}
    assert keys == {(Key("SAMPLE-AES", URI, rendition_iv(plan, "aac")),)}


def test_the_mpd_names_scheme_and_key() -> None:
    plan = plan_by("cbcs")
    made = {name: segments_of(plan, name) for name in manifests.finished_names(plan)}
    text = write_mpd(manifests.mpd(plan, made, codecs_of(plan), texts_of(plan)))
    assert f'cenc:default_KID="{KEY_ID}"' in text
    wanted = ContentProtection("cbcs", bytes.fromhex(KEY_ID.replace("-", "")))
    assert {one.protection for one in parse_mpd(text).adaptation_sets} == {wanted}


SEGMENT = playlist.Segment(Fraction(6), "a.m4s")
IV = bytes(range(16))


def test_keys_are_told_where_they_change() -> None:
    one, two = Key("AES-128", "k", IV), Key("AES-128", "k", bytes(16))
    segments = tuple(replace(SEGMENT, keys=keys) for keys in ((), (one,), (one,), (two,)))
    media = playlist.MediaPlaylist(segments, 6, map=playlist.Map("i"))
    text = write_media(media)
    assert text.count("#EXT-X-KEY") == 2
    assert parse_media(text) == media
    # Without EXT-X-MAP, KEYFORMAT alone needs version 5 (RFC 8216, 7).
    assert playlist.MediaPlaylist(segments, 6).version == 5
    with pytest.raises(Exception, match="no playlist can say") as caught:
        write_media(replace(media, segments=(segments[1], SEGMENT)))
    assert getattr(caught.value, "code", "") == "playlist_value"


HEAD = '#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:6\n#EXT-X-MAP:URI="i"\n'
KEY_LINE = '#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x000102030405060708090A0B0C0D0E0F\n'
ENTRY = "#EXTINF:6,\na.m4s\n"


def test_a_key_holds_until_the_next_one_or_none() -> None:
    text = HEAD + KEY_LINE + ENTRY + ENTRY + "#EXT-X-KEY:METHOD=NONE\n" + ENTRY
    found = [entry.keys for entry in parse_media(text).segments]
    assert found == [(Key("AES-128", "k", IV),)] * 2 + [()]


@pytest.mark.parametrize(
    "text",
    [
        HEAD.replace('#EXT-X-MAP:URI="i"\n', "") + KEY_LINE + '#EXT-X-MAP:URI="i"\n' + ENTRY,
        HEAD + KEY_LINE.replace("AES-128", "AES-512") + ENTRY,
        HEAD + KEY_LINE.replace('URI="k",', "") + ENTRY,
        HEAD + KEY_LINE.replace("0x0001", "0x01") + ENTRY,
        HEAD + KEY_LINE.replace("METHOD=AES-128,", "") + ENTRY,
    ],
)
def test_keys_that_break_a_rule_are_told_with_their_line(text: str) -> None:
    with pytest.raises(Exception, match="line ") as caught:
        parse_media(text)
    assert getattr(caught.value, "code", "") == "malformed_playlist"


@pytest.mark.parametrize(
    ("old", "new"),
    [(KEY_ID, "12"), ("default_KID", "kid"), ("urn:mpeg:dash:mp4protection", "urn:x")],
)
def test_an_mpd_that_does_not_name_its_key(old: str, new: str) -> None:
    plan = plan_by("cbcs")
    made = {name: segments_of(plan, name) for name in manifests.finished_names(plan)}
    text = write_mpd(manifests.mpd(plan, made, codecs_of(plan), texts_of(plan))).replace(old, new)
    if new == "urn:x":
        assert {one.protection for one in parse_mpd(text).adaptation_sets} == {None}
        return
    with pytest.raises(Exception, match="default_KID") as caught:
        parse_mpd(text)
    assert getattr(caught.value, "code", "") == "malformed_mpd"


def test_a_content_key_is_not_another() -> None:
    assert ContentKey(KEY.data) == KEY != OTHER
