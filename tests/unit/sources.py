"""Sources as a probe would describe them, written by hand: never by our probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from telecine.engine.media import (
    AudioStream,
    Chapter,
    Color,
    ExtraInput,
    Fingerprint,
    FrameIndex,
    Keyframe,
    Light,
    MediaInfo,
    OtherStream,
    PictureFile,
    SubtitleStream,
    VideoStream,
)

MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
MATROSKA = "matroska,webm"
BT709 = Color("tv", "bt709", "bt709", "bt709")
FINGERPRINT = Fingerprint(12_345_678, "0123456789abcdef" * 4)


def table(
    gop_frames: Sequence[int], *, frame_ticks: int = 512, frame_bytes: int = 10_000
) -> FrameIndex:
    """The index of a stream whose IDR pictures start GOPs of these lengths, a frame every
    `frame_ticks`, one B-frame deep, each frame of `frame_bytes`."""
    keyframes = []
    shown = 0
    for frames in gop_frames:
        keyframes.append(Keyframe(shown * frame_ticks, shown, frames * frame_bytes, idr=True))
        shown += frames
    return FrameIndex(
        frame_count=shown,
        first_ticks=0,
        end_ticks=shown * frame_ticks,
        usual_gap_ticks=Fraction(frame_ticks),
        regular=True,
        max_gap_ticks=frame_ticks,
        reorder_ticks=2 * frame_ticks,
        keyframes=tuple(keyframes),
    )


# H.264 High at 24 frames/s on a clock of 12288 a second (512 ticks a frame), 30 s, a GOP every 2 s,
# 10 kB a frame: 1.92 Mb/s. Every rule for a copied top rung holds; each test breaks one.
PICTURE = VideoStream(
    index=0,
    codec="h264",
    codec_profile="High",
    level=40,
    pix_fmt="yuv420p",
    bit_depth=8,
    width=1920,
    height=1080,
    sar=Fraction(1),
    rotation=0,
    mirrored=False,
    field_order="progressive",
    rate=Fraction(24),
    nominal_rate=Fraction(24),
    variable_rate=False,
    time_base=Fraction(1, 12288),
    start_s=Fraction(0),
    end_s=Fraction(30),
    bitrate_bps=1_920_000,
    color=BT709,
    default=True,
    parameter_sets=2,
    index_table=table([48] * 15),
)

# 1407 frames of 1024 samples: 30.016 s at 48 kHz.
SOUND = AudioStream(
    index=1,
    codec="aac",
    codec_profile="LC",
    channels=2,
    channel_layout="stereo",
    sample_rate=48_000,
    start_s=Fraction(0),
    end_s=Fraction(1407 * 1024, 48_000),
    bitrate_bps=160_000,
    default=True,
    language="eng",
    frame_samples=1024,
    configured=True,
)

SURROUND = replace(
    SOUND,
    codec="ac3",
    codec_profile=None,
    channels=6,
    channel_layout="5.1(side)",
    frame_samples=1536,
    bitrate_bps=448_000,
    configured=False,
)


def media(
    video: VideoStream | tuple[VideoStream, ...] | None = PICTURE,
    audio: AudioStream | tuple[AudioStream, ...] | None = SOUND,
    *,
    container: str = MP4,
    seekable: bool = True,
    duration_s: Fraction = Fraction(30),
    start_s: Fraction = Fraction(0),
    other: tuple[OtherStream, ...] = (),
    subtitles: tuple[SubtitleStream, ...] = (),
) -> MediaInfo:
    pictures = (video,) if isinstance(video, VideoStream) else video or ()
    sounds = (audio,) if isinstance(audio, AudioStream) else audio or ()
    return MediaInfo(
        container=container,
        fingerprint=FINGERPRINT,
        start_s=start_s,
        duration_s=duration_s,
        stated_duration_s=duration_s,
        video=pictures,
        audio=sounds,
        other=other,
        seekable=seekable,
        subtitles=subtitles,
    )


def lasting(
    seconds: int | Fraction, video: VideoStream = PICTURE, audio: AudioStream | None = SOUND
) -> MediaInfo:
    """The same streams, all of them this long, without a table of frames."""
    end_s = Fraction(seconds)
    return media(
        replace(video, end_s=end_s, index_table=None),
        None if audio is None else replace(audio, end_s=end_s),
        duration_s=end_s,
    )


COMPLIANT = media()

# x264 as it comes: a keyframe every 250 frames, 10.42 s at 24.
DEFAULT_KEYINT = media(replace(PICTURE, index_table=table([250, 250, 220])))

# A telephone held upright: HEVC 10 bits, HLG, coded lying down, about 29.7 frames/s as light falls.
PHONE = media(
    replace(
        PICTURE,
        codec="hevc",
        codec_profile="Main 10",
        pix_fmt="yuv420p10le",
        bit_depth=10,
        rotation=90,
        rate=Fraction(2970, 100),
        nominal_rate=Fraction(30),
        variable_rate=True,
        time_base=Fraction(1, 600),
        end_s=Fraction(25, 2),
        color=Color("tv", "bt2020", "arib-std-b67", "bt2020nc"),
        index_table=None,
        parameter_sets=0,
    ),
    replace(SOUND, sample_rate=44_100, end_s=Fraction(25, 2)),
    duration_s=Fraction(25, 2),
    other=(OtherStream(2, "data", "bin_data"),),
)

# A disc's film: HEVC 10 bits, PQ, mastered on a P3 display of 1000 cd/m².
HDR10 = media(
    replace(
        PICTURE,
        codec="hevc",
        codec_profile="Main 10",
        width=3840,
        height=2160,
        pix_fmt="yuv420p10le",
        bit_depth=10,
        color=Color("tv", "bt2020", "smpte2084", "bt2020nc"),
        light=Light(
            (13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450, 10_000_000, 50), (1000, 400)
        ),
        index_table=None,
        parameter_sets=0,
    )
)

# European HD television: 25 frames of two fields, top first; the clock starts at 1.4 s.
BROADCAST = media(
    replace(
        PICTURE,
        field_order="tff",
        rate=Fraction(25),
        nominal_rate=Fraction(25),
        time_base=Fraction(1, 90_000),
        start_s=Fraction(7, 5),
        end_s=Fraction(7, 5) + 40,
        index_table=None,
    ),
    replace(SURROUND, start_s=Fraction(7, 5), end_s=Fraction(7, 5) + 40),
    container="mpegts",
    seekable=False,
    start_s=Fraction(7, 5),
    duration_s=Fraction(40),
)

# PAL 4:3 from a DVD: 720×576 whose pixels are 16:15 wide.
PAL = media(
    replace(
        PICTURE,
        codec="mpeg2video",
        codec_profile="Main",
        width=720,
        height=576,
        sar=Fraction(16, 15),
        field_order="tff",
        rate=Fraction(25),
        nominal_rate=Fraction(25),
        time_base=Fraction(1, 90_000),
        start_s=Fraction(1, 2),
        end_s=Fraction(21, 2),
        color=Color("tv", "bt470bg", "bt470bg", "bt470bg"),
        index_table=None,
        parameter_sets=0,
    ),
    replace(
        SOUND,
        codec="mp2",
        codec_profile=None,
        frame_samples=1152,
        start_s=Fraction(1, 2),
        end_s=Fraction(21, 2),
        configured=False,
    ),
    container="mpeg",
    seekable=False,
    start_s=Fraction(1, 2),
    duration_s=Fraction(10),
)

# A film at 24000/1001 in Matroska: wide picture, surround sound, no table of frames.
FILM = media(
    replace(
        PICTURE,
        height=800,
        rate=Fraction(24000, 1001),
        nominal_rate=Fraction(24000, 1001),
        time_base=Fraction(1, 1000),
        end_s=Fraction(60),
        index_table=None,
    ),
    replace(SURROUND, end_s=Fraction(60), language="deu"),
    container=MATROSKA,
    duration_s=Fraction(60),
    subtitles=(SubtitleStream(2, "text", "subrip", "deu"),),
    other=(OtherStream(3, "attachment", "ttf"),),
)

# As from a disc: a title that is turned on its side, with pictures of text.
DISC = replace(
    FILM,
    video=(replace(FILM.video[0], rotation=90),),
    subtitles=(SubtitleStream(2, "bitmap", "hdmv_pgs_subtitle", "eng"),),
)

UHD60 = media(
    replace(
        PICTURE,
        codec="av1",
        codec_profile="Main",
        width=3840,
        height=2160,
        rate=Fraction(60),
        nominal_rate=Fraction(60),
        time_base=Fraction(1, 1000),
        end_s=Fraction(10),
        index_table=None,
        parameter_sets=0,
    ),
    replace(
        SOUND,
        codec="opus",
        codec_profile=None,
        frame_samples=960,
        end_s=Fraction(10),
        configured=False,
    ),
    container=MATROSKA,
    duration_s=Fraction(10),
)

ODD = media(replace(PICTURE, width=161, height=121), None)

SURROUND_ONLY = media(
    None, replace(SURROUND, index=0, end_s=Fraction(20)), container="ac3", duration_s=Fraction(20)
)

# 44.1 kHz AAC: 600 frames of 1024 samples.
SONG = media(
    None,
    replace(SOUND, index=0, sample_rate=44_100, end_s=Fraction(600 * 1024, 44_100)),
    duration_s=Fraction(600 * 1024, 44_100),
    other=(OtherStream(1, "cover", "mjpeg"),),
)

SEVERAL = media(
    (
        replace(PICTURE, index=0, width=640, height=360, default=False, index_table=None),
        replace(PICTURE, index=2, width=1280, height=720, default=False, index_table=None),
    ),
    (
        replace(SOUND, index=1, default=False, language="fra"),
        replace(SOUND, index=3, default=True, language="deu"),
    ),
)

# A film with its own sound in 5.1, a dubbed one, one with what is shown told, and a commentary that
# goes on for 6 s after the film.
TRACKS = media(
    audio=(
        replace(SOUND, channels=6, channel_layout="5.1", bitrate_bps=384_000, title="Original"),
        replace(SURROUND, index=2, default=False, language="deu"),
        replace(SOUND, index=3, default=False, language="deu", described=True),
        replace(SOUND, index=4, default=False, commentary=True, end_s=Fraction(36)),
    )
)

LATE_SOUND = media(audio=replace(SOUND, start_s=Fraction(2)))
LONG_SOUND = media(audio=replace(SOUND, end_s=Fraction(36)), duration_s=Fraction(36))
SHORT_SOUND = media(audio=replace(SOUND, end_s=Fraction(20)))
EARLY_SOUND = media(replace(PICTURE, start_s=Fraction(1)), replace(SOUND, end_s=Fraction(30)))
NO_INDEX = media(replace(PICTURE, index_table=None))
SILENT = media(audio=None)
CHAPTERED = replace(
    COMPLIANT,
    chapters=(
        Chapter(Fraction(0), Fraction(25, 2), "Opening"),
        Chapter(Fraction(25, 2), Fraction(31), None),
    ),
)

# A watermark, twice as wide as high.
LOGO = ExtraInput("watermark", "picture", FINGERPRINT, picture=PictureFile("png", 80, 40))
