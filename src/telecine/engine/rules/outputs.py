"""Rules on files of their own, the report, and what decodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from telecine.engine.copying import SOUND_OVERHANG_S
from telecine.engine.encoders import FALLBACK
from telecine.engine.plan import FileOutput
from telecine.engine.rules.figures import sec
from telecine.engine.rules.found import Found, Mp4File, Mp4Track
from telecine.engine.rules.measures import display_size, fits, only_rounded
from telecine.engine.rules.table import Problems, rule

AV_OFFSET_S = Fraction(40, 1000)
ASPECT_TOLERANCE = Fraction(1, 200)
SOUND_FILE_TOLERANCE_S = Fraction(1, 4)  # encoder delay, padding and a source's frames


def _has_file(kinds: Sequence[str]) -> Callable[[Found], bool]:
    def applies(found: Found) -> bool:
        if found.plan is not None:
            return any(file.kind in kinds for file in found.plan.files)
        return False

    return applies


@rule("progressive-mp4", "plan", lambda f: bool(f.mp4s) or _has_file(["mp4"])(f))
def _progressive_mp4(found: Found) -> tuple[Problems, str]:
    """A progressive file has moov before mdat and every sample inside the file, one avc1 video
    track (and one of sound where the source has it) of the planned size, pictures and duration, and
    both start as in the stream."""
    problems = [
        f"{file.path}: {what}" for file in found.mp4s for what in _mp4_problems(found, file)
    ]
    return problems, ", ".join(f"{f.path} {f.size_bytes / 1e6:.3f} MB" for f in found.mp4s)


def _mp4_problems(found: Found, file: Mp4File) -> Iterator[str]:
    order = [kind for kind in file.boxes if kind in ("moov", "mdat")]
    if order[:1] != ["moov"] or "mdat" not in order:
        yield f"boxes {' '.join(file.boxes)}: moov is not before mdat"
    data_end = max((track.data_end for track in file.tracks), default=0)
    if data_end > file.size_bytes:
        yield f"samples end at byte {data_end} of {file.size_bytes}"
    kinds = sorted(track.handler for track in file.tracks)
    wanted = ["soun", "vide"] if found.plan is None or found.plan.sounds else ["vide"]
    if kinds != wanted and not (found.plan is None and kinds == ["vide"]):
        yield f"tracks {kinds}, not {wanted}"
    for track in file.tracks:
        if track.start_s is None or track.end_s is None:
            yield f"the edit list of {track.handler} is more than a shift"
            continue
        if abs(track.start_s) > AV_OFFSET_S + (SOUND_OVERHANG_S if track.handler == "soun" else 0):
            yield f"{track.handler} starts at {sec(track.start_s)}"
        if track.handler == "vide":
            yield from _mp4_picture_problems(found, file, track, track.end_s)


def _mp4_picture_problems(
    found: Found, file: Mp4File, track: Mp4Track, end_s: Fraction
) -> Iterator[str]:
    if track.codec not in FALLBACK.coding.entries[:1]:
        yield f"sample entry {track.codec}"
    plan = found.plan
    output = _planned_file(found, file.path)
    if plan is None or output is None or output.rendition is None:
        return
    size = plan.rendition(output.rendition).size
    if (track.width, track.height) != (size.width, size.height):
        yield f"{track.width}×{track.height}, planned {size}"
    frame_s = 1 / plan.timeline.rate
    if abs(end_s - plan.timeline.duration_s) > frame_s:
        yield f"pictures end at {sec(end_s)}, planned {sec(plan.timeline.duration_s)}"
    frames = sum(plan.timeline.frames)
    warned = any(line.startswith(f"{output.rendition}: ") for line in found.told)
    if track.samples != frames and not (warned and track.samples < frames):
        yield f"{track.samples} pictures, planned {frames}"


def _planned_file(found: Found, path: str) -> FileOutput | None:
    files = found.plan.files if found.plan is not None else ()
    return next((file for file in files if file.path == path), None)


@rule(
    "audio-files", "plan", lambda f: bool(f.sounds) or _has_file(["mp3", "aac", "opus", "flac"])(f)
)
def _audio_files(found: Found) -> tuple[Problems, str]:
    """A file of sound is of its format and as long as the source's sound within 0.25 s, without
    what an edit list hides before 0."""
    problems = []
    audio = found.plan.audio if found.plan is not None else None
    for file in found.sounds:
        if audio is None or audio.start_s is None or audio.end_s is None:
            continue
        wanted = audio.end_s - max(audio.start_s, Fraction(0))
        if abs(file.duration_s - wanted) > SOUND_FILE_TOLERANCE_S:
            problems.append(f"{file.path} lasts {sec(file.duration_s)}, the source {sec(wanted)}")
    return problems, ", ".join(f"{file.path} {sec(file.duration_s)}" for file in found.sounds)


@rule("poster", "plan", lambda f: f.poster is not None or _has_file(["poster"])(f))
def _poster(found: Found) -> tuple[Problems, str]:
    """The poster is a whole JPEG of the source's aspect, not larger than it."""
    size, display = found.poster, display_size(found)
    if size is None:
        return [], "none"
    problems = []
    if display is not None:
        error = abs(Fraction(size.width, size.height) * display[1] / display[0] - 1)
        if not fits(size, display):
            problems.append(f"{size} is larger than the source")
        if error > ASPECT_TOLERANCE and not only_rounded(size, display):
            problems.append(f"{size} is {float(100 * error):.2f} % off in aspect")
    return problems, str(size)


@rule("report", "plan", lambda f: f.report is not None)
def _report(found: Found) -> tuple[Problems, str]:
    """A report that lies in the folder is of this plan and says how the run ended."""
    report = found.report or {}
    problems = []
    state = report.get("state")
    if state not in ("succeeded", "failed", "interrupted"):
        problems.append(f"state {state!r}")
    if found.plan is not None and report.get("plan_id") != found.plan.id:
        problems.append(f"of plan {report.get('plan_id')!r}, here lies {found.plan.id}")
    return problems, f"state {state}"


@rule("decodes", "plan", lambda f: f.decoded is not None)
def _decodes(found: Found) -> tuple[Problems, str]:
    """Every rendition and file decodes without an error, and to as many pictures as it has."""
    problems = []
    for item in found.decoded or ():
        problems += [f"{item.path}: {line}" for line in item.errors[:1]]
        if item.expected is not None and item.frames != item.expected:
            problems.append(f"{item.path}: {item.frames} pictures decoded, {item.expected} coded")
    frames = sum(item.frames for item in found.decoded or ())
    return problems, f"{len(found.decoded or ())} decoded, {frames} pictures"
