"""The MPD: a text written by hand from ISO/IEC 23009-1, an independent parser, round trips."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpegdash.parser import MPEGDASHParser  # type: ignore[import-untyped]
from tests.thorough import examples

from telecine.engine.errors import StepFailed
from telecine.engine.formats import mpd
from telecine.engine.formats.mpd import (
    MPD,
    AdaptationSet,
    Representation,
    SegmentTemplate,
    TextFile,
)

TEXT = """\
<?xml version="1.0" encoding="UTF-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" \
profiles="urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019" type="static" \
mediaPresentationDuration="PT13.013S" maxSegmentDuration="PT6.037333S" minBufferTime="PT12S">
  <Period id="0" start="PT0S">
    <AdaptationSet id="0" contentType="video" mimeType="video/mp4" segmentAlignment="true" \
startWithSAP="1">
      <Role schemeIdUri="urn:mpeg:dash:role:2011" value="main" />
      <Representation id="720" bandwidth="3000000" codecs="avc1.64001f" width="1280" height="720" \
frameRate="24000/1001" sar="1:1">
        <SegmentTemplate timescale="24000" startNumber="1" initialization="v/720/init.mp4" \
media="v/720/$Number%05d$.m4s">
          <SegmentTimeline>
            <S t="0" d="144144" r="1" />
            <S d="24024" />
          </SegmentTimeline>
        </SegmentTemplate>
      </Representation>
    </AdaptationSet>
    <AdaptationSet id="1" contentType="audio" mimeType="audio/mp4" lang="de" \
segmentAlignment="true" startWithSAP="1">
      <Role schemeIdUri="urn:mpeg:dash:role:2011" value="main" />
      <Representation id="aac" bandwidth="128000" codecs="mp4a.40.2" audioSamplingRate="48000">
        <AudioChannelConfiguration \
schemeIdUri="urn:mpeg:dash:23003:3:audio_channel_configuration:2011" value="2" />
        <SegmentTemplate timescale="48000" presentationTimeOffset="1024" startNumber="3" \
initialization="a/init.mp4" media="a/$Number$.m4s">
          <SegmentTimeline>
            <S t="1024" d="289792" />
            <S d="288768" r="2" />
          </SegmentTimeline>
        </SegmentTemplate>
      </Representation>
    </AdaptationSet>
  </Period>
</MPD>
"""

VIDEO = Representation(
    id="720",
    bandwidth_bps=3_000_000,
    codecs="avc1.64001f",
    template=SegmentTemplate(
        timescale=24000,
        initialization="v/720/init.mp4",
        media="v/720/$Number%05d$.m4s",
        durations_ticks=(144144, 144144, 24024),
    ),
    width=1280,
    height=720,
    frame_rate=Fraction(24000, 1001),
    sar=Fraction(1),
)
AUDIO = Representation(
    id="aac",
    bandwidth_bps=128_000,
    codecs="mp4a.40.2",
    template=SegmentTemplate(
        timescale=48000,
        initialization="a/init.mp4",
        media="a/$Number$.m4s",
        durations_ticks=(289792, 288768, 288768, 288768),
        start_ticks=1024,
        start_number=3,
        presentation_offset_ticks=1024,
    ),
    audio_sampling_rate=48000,
    channels=2,
)
VALUE = MPD(
    duration_s=Fraction(13013, 1000),
    min_buffer_s=Fraction(12),
    adaptation_sets=(
        AdaptationSet("video", "video/mp4", (VIDEO,)),
        AdaptationSet("audio", "audio/mp4", (AUDIO,), lang="de"),
    ),
)


def test_an_mpd_is_written_and_read() -> None:
    assert mpd.write_mpd(VALUE) == TEXT
    assert mpd.parse_mpd(TEXT) == VALUE


def test_an_independent_parser_reads_the_same() -> None:
    found = MPEGDASHParser.parse(mpd.write_mpd(VALUE))
    assert (found.type, found.media_presentation_duration) == ("static", "PT13.013S")
    video, audio = found.periods[0].adaptation_sets
    assert (video.content_type, video.mime_type) == ("video", "video/mp4")
    assert video.start_with_sap in (1, "1")
    (rung,) = video.representations
    assert (rung.width, rung.height, rung.frame_rate, rung.sar) == (1280, 720, "24000/1001", "1:1")
    assert (rung.bandwidth, rung.codecs) == (3_000_000, "avc1.64001f")
    (template,) = rung.segment_templates
    assert (template.timescale, template.start_number) == (24000, 1)
    assert template.media == "v/720/$Number%05d$.m4s"
    runs = template.segment_timelines[0].Ss
    assert [(run.t, run.d, run.r) for run in runs] == [(0, 144144, 1), (None, 24024, None)]
    assert audio.lang == "de"
    channels = audio.representations[0].audio_channel_configurations[0]
    assert channels.value == "2"


def test_the_names_of_the_segments() -> None:
    assert VIDEO.template.initialization_uri(VIDEO) == "v/720/init.mp4"
    assert VIDEO.template.uris(VIDEO) == [f"v/720/0000{n}.m4s" for n in (1, 2, 3)]
    by_time = replace(AUDIO.template, media="$RepresentationID$/$Bandwidth%08d$-$Time$-$$.m4s")
    assert by_time.uris(AUDIO)[:2] == ["aac/00128000-1024-$.m4s", "aac/00128000-290816-$.m4s"]
    assert replace(AUDIO.template, durations_ticks=()).uris(AUDIO) == []


def test_sound_for_the_blind_says_so_and_no_other_purpose_is_known() -> None:
    described = AdaptationSet("audio", "audio/mp4", (AUDIO,), lang="de", role="description",
                              label="Für Blinde", accessibility="description")  # fmt: skip
    text = mpd.write_mpd(replace(VALUE, adaptation_sets=(described,)))
    (found,) = mpd.parse_mpd(text).adaptation_sets
    assert found == described
    with pytest.raises(StepFailed, match="Accessibility is of an unknown purpose"):
        mpd.parse_mpd(text.replace("AudioPurposeCS:2007", "AudioPurposeCS:2099"))


@pytest.mark.parametrize("transfer", [16, 18])  # PQ and HLG (ISO/IEC 23091-2, 8.2)
def test_hdr_is_essential_to_know_and_no_other_property_is_known(transfer: int) -> None:
    """Players leave out a set with an essential property that they do not know (ISO/IEC 23009-1,
    5.8.4.8); DASH-IF IOP part 7, 5.4, has HDR say its transfer so."""
    hdr = AdaptationSet("video", "video/mp4", (VIDEO,), transfer=transfer)
    text = mpd.write_mpd(replace(VALUE, adaptation_sets=(hdr,)))
    assert mpd.parse_mpd(text).adaptation_sets == (hdr,)
    (group,) = MPEGDASHParser.parse(text).periods[0].adaptation_sets
    scheme = "urn:mpeg:mpegB:cicp:TransferCharacteristics"
    said = [(one.scheme_id_uri, one.value) for one in group.essential_properties]
    assert said == [(scheme, str(transfer))]
    with pytest.raises(StepFailed, match="EssentialProperty is none that is known") as caught:
        mpd.parse_mpd(text.replace(scheme, "urn:mpeg:mpegB:cicp:ColourPrimaries"))
    assert caught.value.code == "malformed_mpd"


@pytest.mark.parametrize("name", ["$Number%05d$", "$RepresentationID%05d$", "$Numbr$", "a$b"])
def test_names_that_are_no_template_of_an_init_segment(name: str) -> None:
    template = replace(VIDEO.template, initialization=name)
    with pytest.raises(StepFailed, match="template") as caught:
        template.initialization_uri(VIDEO)
    assert caught.value.code == "malformed_mpd"


def test_an_empty_mpd_and_an_unknown_number_of_channels() -> None:
    empty = MPD(Fraction(0), Fraction(1), ())
    assert mpd.parse_mpd(mpd.write_mpd(empty)) == empty
    many = replace(AUDIO, channels=24, template=replace(AUDIO.template, durations_ticks=()))
    text = mpd.write_mpd(replace(empty, adaptation_sets=(AdaptationSet("audio", "a", (many,)),)))
    assert "AudioChannelConfiguration" not in text


def test_text_that_xml_escapes_or_cannot_hold() -> None:
    odd = replace(VALUE, adaptation_sets=(AdaptationSet("text", "<&\"'>\n", (), lang="x"),))
    assert mpd.parse_mpd(mpd.write_mpd(odd)) == odd
    with pytest.raises(StepFailed, match="control character") as caught:
        mpd.write_mpd(replace(odd, adaptation_sets=(AdaptationSet("text", "\x01", ()),)))
    assert caught.value.code == "mpd_value"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT1H2M3.5S", Fraction(3723500, 1000)),
        ("PT2M", Fraction(120)),
        ("PT1H", Fraction(3600)),
        ("PT0.000001S", Fraction(1, 1_000_000)),
    ],
)
def test_durations_in_hours_and_minutes(text: str, seconds: Fraction) -> None:
    assert mpd.parse_mpd(TEXT.replace("PT13.013S", text)).duration_s == seconds


def test_defaults_of_what_is_not_said() -> None:
    text = TEXT.replace(' timescale="24000" startNumber="1"', "").replace(' t="0"', "")
    text = text.replace(' type="static"', "").replace('frameRate="24000/1001"', 'frameRate="25"')
    rung = mpd.parse_mpd(text).adaptation_sets[0].representations[0]
    assert rung.template == replace(VIDEO.template, timescale=1)
    assert rung.frame_rate == 25


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</MPD>", "", "line [0-9]+: no element found"),
        ("<MPD", "<!DOCTYPE MPD [<!ENTITY a 'b'>]><MPD", "line 2: a document type"),
        ("urn:mpeg:dash:schema:mpd:2011", "urn:other", "line 0: document has 0 MPD"),
        ('"static"', '"dynamic"', "line 2: MPD is not static"),
        ("PT13.013S", "13 s", "line 2: MPD has mediaPresentationDuration='13 s'"),
        ("PT13.013S", "PT", "line 2: MPD has mediaPresentationDuration='PT'"),
        (' minBufferTime="PT12S"', "", "line 2: MPD has no minBufferTime"),
        ("  <Period", "<BaseURL>a</BaseURL><Period", "line 3: BaseURL is not supported inside MPD"),
        ("</Period>", "</Period><Period />", "line 2: MPD has 2 Period"),
        ('contentType="video"', 'contentType="image"', "line 4: .* has contentType='image'"),
        (' mimeType="video/mp4"', "", "line 4: AdaptationSet has no mimeType"),
        ('      <Role schemeIdUri="urn:mpeg:dash:role:2011" value="main" />', "", "has 0 Role"),
        ('"3000000"', '"3e6"', "line 6: Representation has bandwidth='3e6'"),
        ('"24000/1001"', '"24/0"', "line 6: Representation has .* divides by zero"),
        ('"24000/1001"', '"24/x"', "line 6: Representation has .* no ratio"),
        ('sar="1:1"', 'sar=":1"', "line 6: Representation has .* no ratio"),
        ('value="2"', 'value="99"', "line 18: AudioChannelConfiguration is not of"),
        ("channel_configuration:2011", "x", "line 18: AudioChannelConfiguration is not of"),
        ('timescale="24000"', 'timescale="0"', "line 7: .* timescale of 0"),
        ('<S d="24024" />', '<S t="9" d="24024" />', "line 10: S starts at 9, .* ended at 288288"),
        ('<S d="24024" />', '<S d="24024" r="-1" />', "line 10: S has r='-1'"),
        ('<S d="24024" />', '<S d="1" r="999998" />', "line 10: S makes more than 1000000"),
        ('<S d="24024" />', '<S d="0" />', "line 10: S is of no duration"),
        ('<S d="24024" />', "<S />", "line 10: S has no d"),
        ('<S d="24024" />', '<T d="24024" />', "line 10: T is not supported"),
    ],
)
def test_mpds_that_break_a_rule(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(StepFailed, match=message) as caught:
        mpd.parse_mpd(TEXT.replace(old, new))
    assert caught.value.code == "malformed_mpd"


def test_a_lone_surrogate_is_no_reason_to_fall_over() -> None:
    with pytest.raises(StepFailed, match="line 2"):
        mpd.parse_mpd(TEXT.replace("<MPD", "\ud800<MPD"))


numbers = st.integers(0, 10**15)
texts = st.text("aé$<&\"' ", max_size=6)
templates = st.builds(
    SegmentTemplate,
    timescale=st.integers(1, 10**9),
    initialization=texts,
    media=texts,
    durations_ticks=st.lists(st.integers(1, 3), max_size=9).map(tuple),
    start_number=numbers,
    presentation_offset_ticks=numbers,
)
ratios = st.none() | st.fractions(Fraction(1, 99), 99, max_denominator=1001)
representations = st.builds(
    Representation,
    id=texts,
    bandwidth_bps=numbers,
    codecs=texts,
    template=templates,
    width=st.none() | numbers,
    height=st.none() | numbers,
    frame_rate=ratios,
    sar=ratios,
    audio_sampling_rate=st.none() | numbers,
    channels=st.sampled_from([None, 1, 2, 6, 8]),
)
mpds = st.builds(
    MPD,
    duration_s=numbers.map(lambda n: Fraction(n, 10**6)),
    min_buffer_s=st.integers(0, 99).map(Fraction),
    adaptation_sets=st.lists(
        st.builds(
            AdaptationSet,
            content_type=st.sampled_from(["video", "audio", "text"]),
            mime_type=texts,
            representations=st.lists(representations, max_size=3).map(tuple),
            lang=st.none() | texts,
            role=texts,
        ),
        max_size=3,
    ).map(tuple),
)


@given(mpds)
def test_mpds_come_back(value: MPD) -> None:
    assert mpd.parse_mpd(mpd.write_mpd(value)) == value


@given(st.data())
@examples(times=2)
def test_a_damaged_mpd_is_read_or_refused_in_words(draw: st.DataObject) -> None:
    start = draw.draw(st.integers(0, len(TEXT)))
    end = draw.draw(st.integers(start, min(len(TEXT), start + 20)))
    with suppress(StepFailed):
        found = mpd.parse_mpd(
            TEXT[:start] + draw.draw(st.text('<>/="PTS0 -$', max_size=9)) + TEXT[end:]
        )
        for adaptation in found.adaptation_sets:
            for representation in adaptation.representations:
                representation.template.uris(representation)


def test_a_file_of_text_is_one_representation() -> None:
    """ISO/IEC 23009-1, 5.3.5: a BaseURL in place of segments, and no alignment of any."""
    text = AdaptationSet(
        "text",
        "text/vtt",
        (),
        lang="de",
        role="caption",
        label="German (SDH)",
        files=(TextFile("subtitles-de", 936, "subtitles/de/whole.vtt"),),
    )
    written = mpd.write_mpd(MPD(Fraction(10), Fraction(2), (text,)))
    assert mpd.parse_mpd(written).adaptation_sets == (text,)
    (group,) = MPEGDASHParser.parse(written).periods[0].adaptation_sets
    (representation,) = group.representations
    assert representation.base_urls[0].base_url_value == "subtitles/de/whole.vtt"
    assert group.segment_alignment is None
