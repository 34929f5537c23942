"""What a finished job made, measured from its files: the rows of its outputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from telecine.engine.beside import content_type
from telecine.engine.formats.containers import jpeg_size
from telecine.engine.images.values import Made
from telecine.engine.manifests import MANIFEST, MASTER
from telecine.engine.output import REPORT
from telecine.engine.plan import FileOutput, Plan
from telecine.engine.profile import AUDIO_KINDS
from telecine.engine.report import Report, RungReport
from telecine.service.db.queue import NewOutput
from telecine.service.image_plans import ImagePlan, PlannedImage
from telecine.service.storage.store import READ_BYTES

CONTENT_TYPES = {
    "hls": "application/vnd.apple.mpegurl",
    "dash": "application/dash+xml",
    "mp4": "video/mp4",
    "mp3": "audio/mpeg",
    "aac": "audio/mp4",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "poster": "image/jpeg",
    "report": "application/json",
}


def measure_outputs(
    plan: Plan,
    report: Report,
    folder: Path,
    sizes: Mapping[str, int],
    on_read: Callable[[], object],
) -> tuple[NewOutput, ...]:
    """A row for everything that was asked for and for the report, measured in the finished folder.
    `sizes` are the bytes of each of its files."""
    facts: list[tuple[str, str, dict[str, Any]]] = []
    if plan.hls:
        streams = _stream_facts(plan, report, sizes)
        facts.append(("hls", MASTER, streams))
        if plan.dash:
            facts.append(("dash", MANIFEST, streams))
    for file in plan.files:
        facts.append((file.kind, file.path, _file_facts(plan, file, folder, sizes[file.path])))
    for stills in plan.stills:
        size = stills.picture_size
        found = {"width": size.width, "height": size.height}
        facts += [(stills.kind, path, found) for path in stills.pictures]
    facts.append(("report", REPORT, {"verified_rules": report.verified_rules}))
    return tuple(
        NewOutput(
            kind=kind,
            path=path,
            content_type=CONTENT_TYPES.get(kind) or content_type(path),
            size_bytes=sizes[path],
            sha256=_sha256(folder / path, on_read),
            facts=found,
        )
        for kind, path, found in facts
    )


def _stream_facts(plan: Plan, report: Report, sizes: Mapping[str, int]) -> dict[str, Any]:
    """`total_bytes` counts playlists and segments of all renditions."""
    names = {rendition.name for rendition in plan.listed}
    names |= {sound.name for sound in plan.sounds if sound.listed}
    homes = [f"{plan.folder_of(name)}/" for name in names]
    homes += [f"{track.folder}/" for track in plan.subtitles]
    total = sum(size for path, size in sizes.items() if path.startswith(tuple(homes)))
    return {
        "duration_s": report.duration_s,
        "total_bytes": total + sizes[MASTER] + sizes.get(MANIFEST, 0),
        "renditions": [_rung_facts(rung) for rung in report.rungs if rung.name in names],
    }


def _rung_facts(rung: RungReport) -> dict[str, Any]:
    size = {"width": rung.width, "height": rung.height} if rung.width else {}
    return {
        "name": rung.name,
        **size,
        "mode": rung.mode,
        "segments": rung.segments,
        "size_bytes": rung.size_bytes,
        "peak_bps": rung.peak_bps,
        "average_bps": rung.average_bps,
    }


def _file_facts(plan: Plan, file: FileOutput, folder: Path, size_bytes: int) -> dict[str, Any]:
    if file.kind == "poster":
        size = jpeg_size((folder / file.path).read_bytes())
        return {"width": size.width, "height": size.height}
    if file.kind not in ("mp4", *AUDIO_KINDS):
        return _beside_facts(plan, file)
    duration_s = float(plan.timeline.duration_s)
    facts: dict[str, Any] = {
        "duration_s": round(duration_s, 3),
        "average_bps": round(8 * size_bytes / duration_s),
    }
    if file.rendition is not None:
        made = plan.rendition(file.rendition).size
        facts |= {"width": made.width, "height": made.height}
    return facts


def _beside_facts(plan: Plan, file: FileOutput) -> dict[str, Any]:
    """What a reader needs who shows it."""
    for stills in plan.stills:
        if stills.kind == file.kind:
            return {
                "pictures": stills.count,
                "every_s": round(float(stills.every_s), 3),
                "width": stills.size.width,
                "height": stills.size.height,
                "columns": stills.columns,
                "rows": stills.rows,
            }
    if file.kind == "preview" and plan.preview is not None:
        size, pieces = plan.preview.size, len(plan.preview.segments)
        lasts_s = round(float(plan.preview.each_s * pieces), 3)
        return {"width": size.width, "height": size.height, "duration_s": lasts_s}
    if file.kind == "waveform" and plan.waveform is not None:
        return {
            "length": plan.waveform.length,
            "samples_per_pixel": plan.waveform.samples_per_pixel,
        }
    return {"chapters": len(plan.chapters)}


def measure_image(image: PlannedImage, made: Made) -> NewOutput:
    """The row of a picture that was made."""
    size = {"width": made.width, "height": made.height, "frames": made.frames}
    return NewOutput(
        kind="image",
        path=image.path,
        content_type=made.content_type,
        size_bytes=len(made.data),
        sha256=hashlib.sha256(made.data).hexdigest(),
        facts={**made.report, "format": made.format, **size, "warnings": list(made.warnings)},
    )


def report_images(
    plan: ImagePlan, outputs: Sequence[NewOutput], warnings: Sequence[str]
) -> dict[str, Any]:
    """What happened to a picture."""
    return {
        "state": "succeeded",
        "version": version("telecine"),
        "source": list(plan.source.summary),
        "files": [
            {
                "path": output.path,
                "size_bytes": output.size_bytes,
                "sha256": output.sha256,
                **output.facts,
                "operations": plan.output(output.path).operations,
            }
            for output in outputs
        ],
        "warnings": list(warnings),
    }


def write_image_report(report: Mapping[str, Any]) -> tuple[bytes, NewOutput]:
    """The report as a file, and its row."""
    data = (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode()
    row = NewOutput(
        kind="report",
        path=REPORT,
        content_type=CONTENT_TYPES["report"],
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        facts={},
    )
    return data, row


def _sha256(path: Path, on_read: Callable[[], object]) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            found.update(piece)
            on_read()
    return found.hexdigest()
