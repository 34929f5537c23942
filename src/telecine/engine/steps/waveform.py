"""The step that draws the sound: its peaks, as JSON and as a picture."""

from __future__ import annotations

from telecine.engine import argv
from telecine.engine.errors import StepFailed
from telecine.engine.peaks import PeaksReader, peaks_json, peaks_png
from telecine.engine.process import limits_for
from telecine.engine.steps.work import MadeFile, Work, put_bytes


def draw(work: Work) -> tuple[MadeFile, ...]:
    """Decode the sound of the source once. Raises `StepFailed` and `Interrupted`; nothing stays
    then."""
    plan = work.plan
    wanted = plan.waveform
    assert wanted is not None
    reader = PeaksReader()
    work.ffmpeg(
        argv.waveform(work.tools.ffmpeg, plan, work.films),
        {argv.FIRST_OUTPUT_FD: reader.feed},
        limits=limits_for(
            0, max(1, len(plan.parts)), max(plan.source.duration_s, plan.timeline.duration_s)
        ),
        read=work.films,
    )
    if len(reader.peaks) != wanted.length:
        raise StepFailed(
            f"the sound has {len(reader.peaks)} peaks, the plan says {wanted.length}",
            code="no_sound",
        )
    text = peaks_json(reader.peaks, wanted.sample_rate, wanted.samples_per_pixel)
    return (
        put_bytes(work, "waveform.json", text.encode()),
        put_bytes(work, "waveform.png", peaks_png(reader.peaks)),
    )
