"""HLS playlists: texts written by hand from RFC 8216, an independent parser, round trips."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import m3u8
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.thorough import examples

from telecine.engine.errors import StepFailed
from telecine.engine.formats import playlist
from telecine.engine.formats.playlist import (
    ByteRange,
    IFrameStream,
    Map,
    MediaPlaylist,
    MultivariantPlaylist,
    Rendition,
    Segment,
    SessionData,
    Variant,
)

MULTIVARIANT = """\
#EXTM3U
#EXT-X-VERSION:6
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="Deutsch",LANGUAGE="de",DEFAULT=YES,AUTOSELECT=YES,\
CHANNELS="2",URI="a/de.m3u8"
#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="subs",NAME="forced",DEFAULT=NO,AUTOSELECT=YES,FORCED=YES,\
URI="s/de.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=3200000,AVERAGE-BANDWIDTH=2500000,CODECS="avc1.64001f,mp4a.40.2",\
RESOLUTION=1280x720,FRAME-RATE=23.976,AUDIO="aac",SUBTITLES="subs",CLOSED-CAPTIONS=NONE
v/720.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=130000,CODECS="mp4a.40.2",AUDIO="aac",CLOSED-CAPTIONS=NONE
a/de.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=400000,CODECS="avc1.64001f",RESOLUTION=1280x720,\
URI="v/720-iframes.m3u8"
"""

MULTIVARIANT_VALUE = MultivariantPlaylist(
    variants=(
        Variant(
            uri="v/720.m3u8",
            bandwidth_bps=3_200_000,
            codecs=("avc1.64001f", "mp4a.40.2"),
            average_bandwidth_bps=2_500_000,
            resolution=(1280, 720),
            frame_rate=Fraction(24000, 1001),
            audio="aac",
            subtitles="subs",
        ),
        Variant("a/de.m3u8", 130_000, ("mp4a.40.2",), audio="aac"),
    ),
    renditions=(
        Rendition(
            type="AUDIO",
            group_id="aac",
            name="Deutsch",
            uri="a/de.m3u8",
            language="de",
            default=True,
            autoselect=True,
            channels="2",
        ),
        Rendition("SUBTITLES", "subs", "forced", "s/de.m3u8", autoselect=True, forced=True),
    ),
    iframe_streams=(
        IFrameStream("v/720-iframes.m3u8", 400_000, ("avc1.64001f",), resolution=(1280, 720)),
    ),
)

MEDIA = """\
#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:6
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI="init.mp4"
#EXTINF:6.006000,
00001.m4s
#EXTINF:1.001000,
00002.m4s
#EXT-X-ENDLIST
"""

MEDIA_VALUE = MediaPlaylist(
    segments=(
        Segment(Fraction(6006, 1000), "00001.m4s"),
        Segment(Fraction(1001, 1000), "00002.m4s"),
    ),
    target_duration=6,
    map=Map("init.mp4"),
    playlist_type="VOD",
    ended=True,
)

IFRAMES = """\
#EXTM3U
#EXT-X-VERSION:5
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-I-FRAMES-ONLY
#EXT-X-MAP:URI="init.mp4",BYTERANGE="700@0"
#EXTINF:2.000000,
#EXT-X-BYTERANGE:5000@24
00001.m4s
#EXTINF:2.000000,
#EXT-X-BYTERANGE:4000@90000
00001.m4s
#EXT-X-ENDLIST
"""

IFRAMES_VALUE = MediaPlaylist(
    segments=(
        Segment(Fraction(2), "00001.m4s", ByteRange(5000, 24)),
        Segment(Fraction(2), "00001.m4s", ByteRange(4000, 90000)),
    ),
    target_duration=2,
    map=Map("init.mp4", ByteRange(700, 0)),
    playlist_type="VOD",
    ended=True,
    independent_segments=False,
    iframes_only=True,
)


# -- writing ---------------------------------------------------------------------------------


def test_a_multivariant_playlist_is_written() -> None:
    assert playlist.write_multivariant(MULTIVARIANT_VALUE) == MULTIVARIANT


@pytest.mark.parametrize(
    ("value", "text"), [(MEDIA_VALUE, MEDIA), (IFRAMES_VALUE, IFRAMES)], ids=["media", "iframes"]
)
def test_a_media_playlist_is_written(value: MediaPlaylist, text: str) -> None:
    assert playlist.write_media(value) == text
    assert playlist.parse_media(text) == value


def test_a_multivariant_playlist_is_read() -> None:
    first, second = MULTIVARIANT_VALUE.variants
    read = playlist.parse_multivariant(MULTIVARIANT)
    # The text has three decimals of the rate.
    assert read == replace(
        MULTIVARIANT_VALUE, variants=(replace(first, frame_rate=Fraction("23.976")), second)
    )
    assert playlist.write_multivariant(read) == MULTIVARIANT


def test_an_independent_parser_reads_the_same_multivariant_playlist() -> None:
    found = m3u8.loads(playlist.write_multivariant(MULTIVARIANT_VALUE))
    assert found.is_variant
    assert found.is_independent_segments
    video, audio = found.playlists
    info = video.stream_info
    assert (info.bandwidth, info.average_bandwidth) == (3_200_000, 2_500_000)
    assert (info.codecs, info.resolution) == ("avc1.64001f,mp4a.40.2", (1280, 720))
    assert (info.frame_rate, info.closed_captions) == (23.976, "NONE")
    assert (info.audio, info.subtitles, video.uri) == ("aac", "subs", "v/720.m3u8")
    assert (audio.uri, audio.stream_info.codecs) == ("a/de.m3u8", "mp4a.40.2")
    track, _ = found.media
    assert (track.type, track.group_id, track.name) == ("AUDIO", "aac", "Deutsch")
    assert (track.language, track.default, track.autoselect) == ("de", "YES", "YES")
    assert (track.channels, track.uri) == ("2", "a/de.m3u8")
    (iframes,) = found.iframe_playlists
    assert iframes.uri == "v/720-iframes.m3u8"
    assert iframes.iframe_stream_info.bandwidth == 400_000


def test_an_independent_parser_reads_the_same_media_playlists() -> None:
    found = m3u8.loads(playlist.write_media(MEDIA_VALUE))
    assert (str(found.version), found.target_duration, found.playlist_type) == ("6", 6, "vod")
    assert (found.is_endlist, found.is_independent_segments) == (True, True)
    assert [(s.uri, s.duration) for s in found.segments] == [
        ("00001.m4s", 6.006),
        ("00002.m4s", 1.001),
    ]
    assert found.segment_map[0].uri == "init.mp4"

    found = m3u8.loads(playlist.write_media(IFRAMES_VALUE))
    assert found.is_i_frames_only
    assert [s.byterange for s in found.segments] == ["5000@24", "4000@90000"]


def test_a_growing_playlist_starts_at_the_beginning_and_only_grows() -> None:
    parts = [Segment(Fraction(1024 * 281, 48000), f"{n}.m4s") for n in range(9)]
    growing = MediaPlaylist(
        segments=tuple(parts[:5]),
        target_duration=7,
        map=Map("init.mp4"),
        playlist_type="EVENT",
        start_offset_s=Fraction(0),
    )
    text = playlist.write_media(growing)
    assert "#EXT-X-PLAYLIST-TYPE:EVENT\n" in text
    assert "#EXT-X-START:TIME-OFFSET=0\n" in text
    assert "#EXT-X-ENDLIST" not in text
    later = playlist.write_media(replace(growing, segments=tuple(parts)))
    assert later.startswith(text)
    ended = playlist.write_media(replace(growing, segments=tuple(parts), ended=True))
    assert ended == later + "#EXT-X-ENDLIST\n"
    assert m3u8.loads(text).start.time_offset == 0


@pytest.mark.parametrize(
    "duration",
    [
        Fraction(1024 * 281, 48000),  # AAC at 48 kHz
        Fraction(1024 * 258, 44100),  # AAC at 44.1 kHz
        Fraction(144 * 1001, 24000),
        Fraction(6) + Fraction(2, 3_000_000),  # loses a third of a microsecond each time
    ],
)
def test_ten_hours_of_extinf_stay_within_a_microsecond(duration: Fraction) -> None:
    count = int(36_000 / duration) + 1
    whole = MediaPlaylist(
        segments=tuple(Segment(duration, f"{n}.m4s") for n in range(count)), target_duration=7
    )
    read = playlist.parse_media(playlist.write_media(whole))
    assert abs(read.duration_s - duration * count) <= Fraction(1, 1_000_000)


def test_video_range_stands_on_all_pictures_or_none() -> None:
    sdr = Variant("a", 1, ("avc1.64001f",), resolution=(2, 2))
    sound = Variant("c", 1, ("mp4a.40.2",))
    stream = IFrameStream("i", 1, ("avc1.64001f",), resolution=(2, 2))
    plain = MultivariantPlaylist((sdr, sound), iframe_streams=(stream,))
    assert "VIDEO-RANGE" not in playlist.write_multivariant(plain)
    mixed = replace(plain, variants=(sdr, replace(sdr, uri="b", video_range="PQ"), sound))
    text = playlist.write_multivariant(mixed)
    assert text.count("VIDEO-RANGE=SDR") == 2
    assert text.count("VIDEO-RANGE=PQ") == 1
    assert playlist.parse_multivariant(text) == mixed


def test_what_is_not_said_is_not_written() -> None:
    bare = MultivariantPlaylist(
        (Variant("a", 1, (), no_closed_captions=False),), independent_segments=False
    )
    text = playlist.write_multivariant(bare)
    assert text == "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-STREAM-INF:BANDWIDTH=1\na\n"
    assert playlist.parse_multivariant(text) == bare


@pytest.mark.parametrize(
    ("value", "version"),
    [
        (MediaPlaylist((), 6), 3),
        (MediaPlaylist((Segment(Fraction(1), "a", ByteRange(1, 0)),), 6), 4),
        (MediaPlaylist((), 6, iframes_only=True), 4),
        (MediaPlaylist((), 6, map=Map("i"), iframes_only=True), 5),
        (MediaPlaylist((), 6, map=Map("i")), 6),
    ],
)
def test_the_version_is_the_lowest_that_has_what_is_used(
    value: MediaPlaylist, version: int
) -> None:
    """RFC 8216, section 7."""
    assert f"#EXT-X-VERSION:{version}\n" in playlist.write_media(value)


@pytest.mark.parametrize(
    "uri",
    ["", "#a", "a b", "a\nb", "a\u0085b", 'a"b'],
    ids=["none", "tag", "space", "nl", "nel", "q"],
)
def test_texts_that_no_playlist_can_say(uri: str) -> None:
    with pytest.raises(StepFailed) as caught:
        playlist.write_media(MediaPlaylist((), 6, map=Map(uri)))
    assert caught.value.code == "playlist_value"


@pytest.mark.parametrize("name", ['a"b', "a\nb"])
def test_names_that_no_playlist_can_say_and_their_cure(name: str) -> None:
    bad = MultivariantPlaylist((), (Rendition("AUDIO", "g", name),))
    with pytest.raises(StepFailed, match="quoted string"):
        playlist.write_multivariant(bad)
    good = MultivariantPlaylist((), (Rendition("AUDIO", "g", playlist.quotable(name)),))
    assert playlist.parse_multivariant(playlist.write_multivariant(good)) == good


def test_quotable_text() -> None:
    assert playlist.quotable(' The "Director\'s"\ncut\x00 é ') == "The 'Director's' cut  é"


@pytest.mark.parametrize(
    ("duration", "message"), [(Fraction(0), "a segment of 0 s"), (Fraction(13, 2), "of 7 s under")]
)
def test_durations_that_no_playlist_can_say(duration: Fraction, message: str) -> None:
    with pytest.raises(StepFailed, match=message):
        playlist.write_media(MediaPlaylist((Segment(duration, "a"),), 6))


# -- figures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("durations", "expected"),
    [
        ([], 1),
        ([Fraction(1, 3)], 1),
        ([Fraction(6006, 1000), Fraction(3)], 6),
        ([Fraction(13, 2)], 7),
        ([Fraction(6_499_998, 1_000_000)], 6),
        ([Fraction("10.4166")], 10),
    ],
)
def test_target_duration(durations: list[Fraction], expected: int) -> None:
    assert playlist.target_duration(durations) == expected


@given(st.lists(st.fractions(Fraction(1, 100_000), 20, max_denominator=10**7), max_size=12))
def test_what_is_written_under_its_own_target_is_always_valid(durations: list[Fraction]) -> None:
    value = MediaPlaylist(
        tuple(Segment(duration, "a") for duration in durations), playlist.target_duration(durations)
    )
    assert len(playlist.parse_media(playlist.write_media(value)).segments) == len(durations)


def test_bandwidths() -> None:
    # Runs of 3 to 9 s count: each single segment of 6 s, and the last two together (8 s).
    segments = [(Fraction(6), 600_000), (Fraction(6), 900_000), (Fraction(2), 900_000)]
    assert playlist.peak_bandwidth_bps(segments, 6) == 8 * 1_800_000 // 8
    assert playlist.average_bandwidth_bps(segments) == -(-8 * 2_400_000 // 14)


def test_bandwidths_of_a_short_or_empty_playlist() -> None:
    assert playlist.peak_bandwidth_bps([(Fraction(1), 1000), (Fraction(1), 3000)], 6) == 16_000
    assert playlist.peak_bandwidth_bps([], 6) == 0


# -- reading ---------------------------------------------------------------------------------

HEAD = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:6\n"


def test_carriage_returns_comments_unknown_tags_and_titles_are_no_trouble() -> None:
    text = "#EXTM3U\r\n# a comment\r\n\r\n#EXT-X-NEW:1\r\n#EXT-X-TARGETDURATION:6\r\n"
    read = playlist.parse_media(text + "#EXTINF:6,a title\r\na.ts\r\n")
    assert read.segments == (Segment(Fraction(6), "a.ts"),)
    assert (read.media_sequence, read.playlist_type, read.ended) == (0, None, False)


def test_a_byte_range_without_an_offset_follows_the_one_before() -> None:
    text = HEAD + (
        "#EXTINF:1,\n#EXT-X-BYTERANGE:10@5\na\n#EXT-X-BYTERANGE:7\n#EXTINF:1,\na\n#EXTINF:1,\nb\n"
    )
    read = playlist.parse_media(text)
    assert [s.byte_range for s in read.segments] == [ByteRange(10, 5), ByteRange(7, 15), None]


def test_a_start_may_be_negative_and_a_sequence_above_zero() -> None:
    read = playlist.parse_media(HEAD + "#EXT-X-START:TIME-OFFSET=-12.5\n#EXT-X-MEDIA-SEQUENCE:7\n")
    assert (read.start_offset_s, read.media_sequence) == (Fraction("-12.5"), 7)
    assert "TIME-OFFSET=-12.5\n" in playlist.write_media(read)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: is not #EXTM3U"),
        ("\ufeff" + MEDIA, "line 1: is not #EXTM3U"),
        ("#EXTM3U\n", "line 1: a media playlist without EXT-X-TARGETDURATION"),
        (MEDIA.replace("N:6\n#EXT-X-M", "N:x\n#EXT-X-M"), "line 3: .* is no decimal integer"),
        (MEDIA.replace("SEQUENCE:0", f"SEQUENCE:{1 << 64}"), "line 4: .* no decimal integer"),
        (MEDIA.replace("VOD", "LIVE"), "line 5: .* is none of EVENT, VOD: 'LIVE'"),
        (MEDIA.replace("VERSION:6", "VERSION:5"), "line 2: version 5; .* needs 6"),
        (MEDIA.replace('MAP:URI="init.mp4"', 'MAP:BYTERANGE="1@0"'), "line 7: .* has no URI"),
        (MEDIA.replace('"init.mp4"', "init.mp4"), "line 7: URI is no quoted string"),
        (MEDIA.replace('"init.mp4"', '"init.mp4'), "line 7: .* no attribute list"),
        (MEDIA.replace('"init.mp4"', '"init.mp4",'), "line 7: .* no attribute list"),
        (MEDIA.replace('"init.mp4"', '"i", X=1'), "line 7: .* no attribute list"),
        (MEDIA.replace('URI="init.mp4"', ""), "line 7: .* no attribute list"),
        (MEDIA.replace('"init.mp4"', '"i",URI="j"'), "line 7: URI stands twice"),
        (MEDIA.replace('"init.mp4"', '"i",BYTERANGE="x"'), "line 7: no byte range: 'x'"),
        (MEDIA.replace("6.006000", "6,006"), None),
        (MEDIA.replace("6.006000,", "6.006000"), "line 8: EXTINF is no duration with a comma"),
        (MEDIA.replace("6.006000", "-6"), "line 8: EXTINF is no duration"),
        (MEDIA.replace("6.006000", "6.500000"), "line 8: .* above the target of 6 s"),
        (MEDIA.replace("00001.m4s\n", ""), "line 9: EXTINF is not followed"),
        (MEDIA.replace("#EXTINF:1.001000,\n", ""), "line 10: a URI without EXTINF"),
        (MEDIA.replace("00002.m4s\n", ""), "line 10: #EXTINF is not followed"),
        (MEDIA.replace("00002.m4s", "a b"), "line 11: a URI with a space"),
        (MEDIA.replace("00002.m4s", "a\tb"), "line 11: a control character"),
        (MEDIA + "#EXT-X-ENDLIST\n", "line 13: #EXT-X-ENDLIST stands twice"),
        (MEDIA + "#EXT-X-GAP\n", "line 13: #EXT-X-GAP is not supported"),
        (MEDIA + "#EXT-X-STREAM-INF:BANDWIDTH=1\n", "line 13: .* into a media playlist"),
        (MULTIVARIANT, "line 4: #EXT-X-MEDIA does not belong into a media playlist"),
        (HEAD + '#EXTINF:1,\na\n#EXT-X-MAP:URI="i"\n', "line 6: .* behind the first segment"),
        (HEAD + "#EXT-X-BYTERANGE:1@0\n#EXT-X-BYTERANGE:1@0\n", "line 5: .* is not followed"),
        (HEAD + "#EXT-X-BYTERANGE:1@0\n", "line 4: .* is not followed by a URI"),
        (HEAD + "#EXTINF:1,\n#EXT-X-BYTERANGE:1\na\n", "line 5: a byte range without an offset"),
        (HEAD + "#EXT-X-START:PRECISE=YES\n", "line 4: #EXT-X-START has no TIME-OFFSET"),
        (HEAD + "#EXT-X-START:TIME-OFFSET=a\n", "line 4: TIME-OFFSET is no decimal number"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:1.5,\na\n", "line 1: version 1; .* needs 3"),
    ],
)
def test_media_playlists_that_break_a_rule(text: str, message: str | None) -> None:
    if message is None:  # "6,006": 6 seconds and a title
        assert playlist.parse_media(text).segments[0].duration_s == 6
        return
    with pytest.raises(StepFailed, match=message) as caught:
        playlist.parse_media(text)
    assert caught.value.code == "malformed_playlist"


AUDIO = '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="g",NAME="a"'
OTHER_AUDIO = AUDIO.replace('"a"', '"b"')
DATA = '#EXT-X-SESSION-DATA:DATA-ID="a",URI="u"'


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("#EXT-X-STREAM-INF:BANDWIDTH=1\n", "line 2: .* not followed by a URI"),
        ("#EXT-X-STREAM-INF:BANDWIDTH=1\n#EXT-X-VERSION:4\n", "line 3: .* not followed by a URI"),
        ("a.m3u8\n", "line 2: a URI without EXT-X-STREAM-INF"),
        ('#EXT-X-STREAM-INF:CODECS="a"\na\n', "line 2: .* has no BANDWIDTH"),
        ("#EXT-X-STREAM-INF:BANDWIDTH=1.5\na\n", "line 2: BANDWIDTH is no decimal integer"),
        ("#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=2\na\n", "line 2: RESOLUTION is no size"),
        ("#EXT-X-STREAM-INF:BANDWIDTH=1,FRAME-RATE=x\na\n", "line 2: FRAME-RATE is no decimal"),
        ("#EXT-X-STREAM-INF:BANDWIDTH=1,VIDEO-RANGE=HDR\na\n", "line 2: VIDEO-RANGE is none of"),
        ('#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="g"\na\n', "line 2: AUDIO names the group 'g'"),
        (f'{AUDIO}\n#EXT-X-STREAM-INF:BANDWIDTH=1,SUBTITLES="g"\na\n', "line 3: SUBTITLES names"),
        ('#EXT-X-STREAM-INF:BANDWIDTH=1,CLOSED-CAPTIONS="c"\na\n', "line 2: CLOSED-CAPTIONS is"),
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=1\na\n"
            "#EXT-X-STREAM-INF:BANDWIDTH=1,CLOSED-CAPTIONS=NONE\nb\n",
            "line 4: CLOSED-CAPTIONS=NONE must stand on all",
        ),
        ('#EXT-X-MEDIA:TYPE=AUDIO,NAME="a"\n', "line 2: .* has no GROUP-ID"),
        ('#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a"\n', "line 2: .* has no NAME"),
        ('#EXT-X-MEDIA:GROUP-ID="a",NAME="a"\n', "line 2: .* has no TYPE"),
        ("#EXT-X-MEDIA:TYPE=SOUND\n", "line 2: TYPE is none of AUDIO, SUBTITLES"),
        (f"{AUDIO},DEFAULT=yes\n", "line 2: DEFAULT is none of YES, NO"),
        (f"{AUDIO},DEFAULT=YES,AUTOSELECT=NO\n", "line 2: DEFAULT=YES with AUTOSELECT=NO"),
        (f"{AUDIO},FORCED=YES\n", "line 2: FORCED belongs to SUBTITLES"),
        (f"{AUDIO}\n{AUDIO}\n", "line 3: NAME 'a' stands twice in its group"),
        (
            f"{AUDIO},DEFAULT=YES\n{OTHER_AUDIO},DEFAULT=YES\n",
            "line 3: a second DEFAULT=YES",
        ),
        (AUDIO.replace("AUDIO", "SUBTITLES") + "\n", "line 2: .* of SUBTITLES has no URI"),
        ("#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1\n", "line 2: .* has no URI"),
        ('#EXT-X-I-FRAME-STREAM-INF:URI="a"\n', "line 2: .* has no BANDWIDTH"),
        ("#EXT-X-TARGETDURATION:6\n", "line 2: .* into a multivariant playlist"),
        ("#EXT-X-VERSION:six\n", "line 2: #EXT-X-VERSION is no decimal integer"),
        ('#EXT-X-SESSION-DATA:URI="a"\n', "line 2: .* has no DATA-ID"),
        ('#EXT-X-SESSION-DATA:DATA-ID="a"\n', "line 2: .* one of VALUE and URI"),
        (f'{DATA},VALUE="b"\n', "line 2: .* one of VALUE and URI"),
        (f"{DATA}\n{DATA}\n", "line 3: 'a' stands twice"),
        (f'{DATA},LANGUAGE="de"\n{DATA}\n{DATA}\n', "line 4: 'a' stands twice"),
    ],
)
def test_multivariant_playlists_that_break_a_rule(lines: str, message: str) -> None:
    with pytest.raises(StepFailed, match=message) as caught:
        playlist.parse_multivariant("#EXTM3U\n" + lines)
    assert caught.value.code == "malformed_playlist"


def test_a_new_tag_in_a_multivariant_playlist_is_passed_over() -> None:
    text = MULTIVARIANT + '#EXT-X-CONTENT-STEERING:SERVER-URI="/s"\n'
    assert playlist.parse_multivariant(text) == playlist.parse_multivariant(MULTIVARIANT)


def test_session_data_is_written_and_another_parser_reads_it() -> None:
    value = MultivariantPlaylist(
        (),
        session_data=(
            SessionData("com.apple.hls.chapters", uri="chapters.json"),
            SessionData("com.example.title", value="Ein Film", language="de"),
        ),
    )
    text = playlist.write_multivariant(value)
    assert text.splitlines()[3:] == [
        '#EXT-X-SESSION-DATA:DATA-ID="com.apple.hls.chapters",URI="chapters.json"',
        '#EXT-X-SESSION-DATA:DATA-ID="com.example.title",VALUE="Ein Film",LANGUAGE="de"',
    ]
    assert playlist.parse_multivariant(text) == value
    read = m3u8.loads(text).session_data
    assert [(one.data_id, one.uri, one.value, one.language) for one in read] == [
        ("com.apple.hls.chapters", "chapters.json", None, None),
        ("com.example.title", None, "Ein Film", "de"),
    ]


# -- round trips -----------------------------------------------------------------------------

names = st.text("aé語',=# ", min_size=1, max_size=9)
uris = st.text("abz09/._-", min_size=1, max_size=9)
numbers = st.integers(0, (1 << 64) - 1)
micros = st.integers(1, 12_000_000).map(lambda n: Fraction(n, 1_000_000))
ranges = st.none() | st.builds(ByteRange, numbers, numbers)
sizes = st.none() | st.tuples(st.integers(1, 9999), st.integers(1, 9999))

media_playlists = st.builds(
    MediaPlaylist,
    segments=st.lists(st.builds(Segment, micros, uris, ranges), max_size=8).map(tuple),
    target_duration=st.just(13),
    map=st.none() | st.builds(Map, uris, ranges),
    playlist_type=st.sampled_from([None, "EVENT", "VOD"]),
    ended=st.booleans(),
    start_offset_s=st.none() | st.integers(-(10**9), 10**9).map(lambda n: Fraction(n, 1_000_000)),
    independent_segments=st.booleans(),
    iframes_only=st.booleans(),
    media_sequence=numbers,
)


@given(media_playlists)
def test_media_playlists_come_back(value: MediaPlaylist) -> None:
    assert playlist.parse_media(playlist.write_media(value)) == value


codecs = st.lists(st.text("av1.", min_size=1, max_size=6), max_size=3).map(tuple)
pictures = {
    "codecs": codecs,
    "average_bandwidth_bps": st.none() | numbers,
    "resolution": st.tuples(st.integers(1, 9999), st.integers(1, 9999)),
    "video_range": st.sampled_from(["SDR", "HLG", "PQ"]),
}
multivariant_playlists = st.builds(
    MultivariantPlaylist,
    variants=st.lists(
        st.builds(
            Variant,
            uri=uris,
            bandwidth_bps=numbers,
            frame_rate=st.none() | st.integers(1, 120_000).map(lambda n: Fraction(n, 1000)),
            audio=st.sampled_from([None, "a"]),
            **pictures,
        ),
        max_size=4,
    ).map(tuple),
    renditions=st.lists(
        st.builds(
            Rendition,
            type=st.just("AUDIO"),
            group_id=st.just("a"),
            name=names,
            uri=st.none() | uris,
            language=st.none() | st.sampled_from(["de", "en-GB"]),
            autoselect=st.just(True),
            channels=st.none() | st.sampled_from(["2", "6"]),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda rendition: rendition.name,
    ).map(tuple),
    iframe_streams=st.lists(
        st.builds(IFrameStream, uri=uris, bandwidth_bps=numbers, **pictures), max_size=2
    ).map(tuple),
    independent_segments=st.booleans(),
    session_data=st.lists(
        st.builds(
            SessionData,
            data_id=st.sampled_from(["com.apple.hls.chapters", "com.example.a"]),
            uri=uris,
            language=st.none() | st.sampled_from(["de", "en-GB"]),
        )
        | st.builds(SessionData, data_id=st.just("com.example.b"), value=names),
        max_size=3,
        unique_by=lambda data: (data.data_id, data.language),
    ).map(tuple),
)


@given(multivariant_playlists)
def test_multivariant_playlists_come_back(value: MultivariantPlaylist) -> None:
    assert playlist.parse_multivariant(playlist.write_multivariant(value)) == value


@given(st.data(), st.sampled_from([MEDIA, IFRAMES, MULTIVARIANT]))
@examples(times=2)
def test_a_damaged_playlist_is_read_or_refused_in_words(draw: st.DataObject, text: str) -> None:
    for _ in range(draw.draw(st.integers(1, 3))):
        start = draw.draw(st.integers(0, len(text)))
        end = draw.draw(st.integers(start, min(len(text), start + 20)))
        text = text[:start] + draw.draw(st.text(',:="@#\n019.-XU', max_size=30)) + text[end:]
    for parse in (playlist.parse_media, playlist.parse_multivariant):
        with suppress(StepFailed):
            parse(text)
