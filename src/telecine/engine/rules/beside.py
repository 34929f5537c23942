"""Rules on what stands beside the film: sheets, thumbnails, preview, waveform, chapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

from telecine.engine.beside import Stills
from telecine.engine.chapters import CHAPTERS_JSON, HLS_CHAPTERS
from telecine.engine.formats.cues import escaped, milliseconds
from telecine.engine.peaks import PNG_SIZE
from telecine.engine.plan import Plan
from telecine.engine.rules.figures import sec
from telecine.engine.rules.found import Found, StillsFound
from telecine.engine.rules.table import Problems, rule


def _planned(wants: Callable[[Plan], object]) -> Callable[[Found], bool]:
    return lambda found: found.plan is not None and bool(wants(found.plan))


def _pairs(found: Found) -> Iterator[tuple[Stills, StillsFound]]:
    """What was planned with what lies there, where that can be read."""
    there = {one.kind: one for one in found.stills}
    for stills in found.plan.stills if found.plan is not None else ():
        if stills.kind in there:
            yield stills, there[stills.kind]


@rule("stills-whole", "plan", _planned(lambda plan: plan.stills))
def _stills_whole(found: Found) -> tuple[Problems, str]:
    """Every sheet and thumbnail is a whole JPEG of the planned size, and the index (WebVTT, and of
    thumbnails JSON with the same times) names each picture at its own place in them."""
    problems = []
    for stills, there in _pairs(found):
        size = stills.picture_size
        problems += [
            f"{path} is {own}, planned {size}" for path, own in there.sizes.items() if own != size
        ]
        for number, cue in enumerate(there.cues[: stills.count]):
            path, x, y = stills.place(number)
            place = f"#xywh={x},{y},{stills.size.width},{stills.size.height}"
            wanted = path + place if stills.kind == "storyboard" else path
            if cue.text != wanted:
                problems.append(f"{stills.kind}.vtt names {cue.text!r}, planned {wanted}")
        if there.listed is not None and there.listed != tuple(
            (cue.text, cue.start_ms, cue.end_ms) for cue in there.cues
        ):
            problems.append("thumbnails.json and thumbnails.vtt differ")
    figures = [f"{len(there.sizes)} JPEGs of {s.picture_size}" for s, there in _pairs(found)]
    return problems, ", ".join(figures)


@rule("stills-cover", "plan", _planned(lambda plan: plan.stills))
def _stills_cover(found: Found) -> tuple[Problems, str]:
    """The times of sheets and thumbnails cover the film without a hole, from 0 to its end, with a
    picture from each planned stretch."""
    assert found.plan is not None
    problems = []
    end_ms = milliseconds(found.plan.timeline.duration_s)
    for stills, there in _pairs(found):
        cues, name = there.cues, f"{stills.kind}.vtt"
        if len(cues) != stills.count:
            problems.append(f"{name} has {len(cues)} pictures, planned {stills.count}")
        edges = [0, *(cue.end_ms for cue in cues)]
        starts = [*(cue.start_ms for cue in cues), end_ms]
        problems += [
            f"{name}: {_ms(start)} follows {_ms(edge)}"
            for edge, start in zip(edges, starts, strict=True)
            if edge != start
        ]
        for number, cue in enumerate(cues):
            first, last = (milliseconds(stills.every_s * n) for n in (number, number + 1))
            if not first <= cue.start_ms < last:
                problems.append(f"{name}: picture {number} is of {_ms(cue.start_ms)}")
    return problems, f"0 to {_ms(end_ms)}"


def _ms(time_ms: int) -> str:
    return sec(Fraction(time_ms, 1000))


@rule("preview", "plan", _planned(lambda plan: plan.preview))
def _preview(found: Found) -> tuple[Problems, str]:
    """The preview is an animated WebP of the planned size that lasts as long as its pieces."""
    assert found.plan is not None
    assert found.plan.preview is not None
    wanted, there = found.plan.preview, found.preview
    if there is None:
        return [], "none"
    problems = []
    if there.size != wanted.size:
        problems.append(f"{there.size}, planned {wanted.size}")
    pictures = round(wanted.each_s * wanted.rate) * len(wanted.segments)
    # Two that are alike are one that is shown longer.
    if not 1 <= there.pictures <= pictures:
        problems.append(f"{there.pictures} pictures, planned {pictures}")
    lasts_s, planned_s = Fraction(there.duration_ms, 1000), Fraction(pictures, wanted.rate)
    if there.pictures > 1 and abs(lasts_s - planned_s) > Fraction(1, wanted.rate):
        problems.append(f"lasts {sec(lasts_s)}, planned {sec(planned_s)}")
    return problems, f"{there.size}, {there.pictures} pictures, {sec(lasts_s)}"


@rule("waveform", "plan", _planned(lambda plan: plan.waveform))
def _waveform(found: Found) -> tuple[Problems, str]:
    """The peaks are one channel of 8 bits, as many as the film's length takes, the least of each
    pair first; the picture is a whole PNG."""
    assert found.plan is not None
    assert found.plan.waveform is not None
    wanted, there = found.plan.waveform, found.waveform
    if there is None:
        return [], "none"
    problems = []
    planned = {
        "version": 2,
        "channels": 1,
        "sample_rate": wanted.sample_rate,
        "samples_per_pixel": wanted.samples_per_pixel,
        "bits": 8,
        "length": wanted.length,
    }
    problems += [
        f"{name} {there.head.get(name)!r}, planned {value}"
        for name, value in planned.items()
        if there.head.get(name) != value
    ]
    if len(there.data) != 2 * wanted.length:
        problems.append(f"{len(there.data)} numbers for {wanted.length} pairs")
    pairs = zip(there.data[::2], there.data[1::2], strict=False)
    if any(not -128 <= low <= high <= 127 for low, high in pairs):
        problems.append("a pair that is no least and greatest of 8 bits")
    if there.picture != PNG_SIZE:
        problems.append(f"the picture is {there.picture}, planned {PNG_SIZE}")
    return problems, f"{wanted.length} peaks of {wanted.samples_per_pixel} samples"


@rule("chapters", "RFC 8216 4.3.4.4, plan", _planned(lambda plan: plan.chapters))
def _chapters(found: Found) -> tuple[Problems, str]:
    """Chapters lie in the film, one after the other, the same in WebVTT and JSON, and the
    multivariant playlist names the JSON."""
    assert found.plan is not None
    chapters, there = found.plan.chapters, found.chapters
    if there is None:
        return [], "none"
    problems = []
    end_ms = milliseconds(found.plan.timeline.duration_s)
    edge = 0
    for cue in there.cues:
        if cue.start_ms < edge or cue.end_ms > end_ms:
            problems.append(f"{_ms(cue.start_ms)} to {_ms(cue.end_ms)} lies outside or across")
        edge = cue.end_ms
    wanted = tuple(
        (milliseconds(c.start_s), milliseconds(c.end_s), c.title or "") for c in chapters
    )
    if tuple((c.start_ms, c.end_ms, c.text) for c in there.cues) != tuple(
        (start, end, escaped(title)) for start, end, title in wanted
    ):
        problems.append("the WebVTT is not what was planned")
    if there.listed != wanted:
        problems.append("the JSON is not what was planned")
    if found.master is not None and not any(
        data.data_id == HLS_CHAPTERS and data.uri == CHAPTERS_JSON
        for data in found.master.session_data
    ):
        problems.append("the multivariant playlist does not name them")
    return problems, f"{len(there.cues)} chapters"
