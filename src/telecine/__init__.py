"""Any video in, a verified HLS + DASH ladder out; any picture in, the wanted one out. The names
below are the public API.

    from pathlib import Path
    import telecine

    tools = telecine.find_tools()
    profile = telecine.make_profile()  # HLS, DASH and a poster
    report = telecine.transcode(Path("in.mov"), Path("out"), profile, tools=tools, jobs=2)

    wanted = telecine.WantedImage(telecine.parse_operations("resize:w=800;rotate:angle=90"), "webp")
    with telecine.ImageWorkers(tools, count=2, limits=telecine.ImageLimits()) as workers:
        made = telecine.transform_image(workers, Path("in.heic"), wanted)

They are imported on first use, so that `import telecine` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from telecine.engine.errors import (
        InputRefused,
        Interrupted,
        MediaError,
        StepFailed,
        ToolMissing,
        UsageError,
        VerifyFailed,
    )
    from telecine.engine.events import Event
    from telecine.engine.images.grammar import parse_text as parse_operations
    from telecine.engine.images.pool import ImageWorkers
    from telecine.engine.images.transform import inspect as inspect_image
    from telecine.engine.images.transform import transform as transform_image
    from telecine.engine.images.values import ImageInfo, ImageLimits
    from telecine.engine.images.values import Made as MadeImage
    from telecine.engine.images.values import Wanted as WantedImage
    from telecine.engine.media import MediaInfo
    from telecine.engine.plan import Plan
    from telecine.engine.planning import make_plan as plan
    from telecine.engine.probe import probe
    from telecine.engine.process import Cancel
    from telecine.engine.profile import Output, Profile, make_profile, parse_output
    from telecine.engine.report import Report
    from telecine.engine.tools import Tools, find_tools
    from telecine.engine.transcode import transcode
    from telecine.engine.verify import Verification, verify

    __version__: str

__all__ = [
    "Cancel",
    "Event",
    "ImageInfo",
    "ImageLimits",
    "ImageWorkers",
    "InputRefused",
    "Interrupted",
    "MadeImage",
    "MediaError",
    "MediaInfo",
    "Output",
    "Plan",
    "Profile",
    "Report",
    "StepFailed",
    "ToolMissing",
    "Tools",
    "UsageError",
    "Verification",
    "VerifyFailed",
    "WantedImage",
    "__version__",
    "find_tools",
    "inspect_image",
    "make_profile",
    "parse_operations",
    "parse_output",
    "plan",
    "probe",
    "transcode",
    "transform_image",
    "verify",
]

# Where each lives in the engine; "module:name" where it has another name there.
_HOMES = {
    "Cancel": "process",
    "Event": "events",
    "ImageInfo": "images.values",
    "ImageLimits": "images.values",
    "ImageWorkers": "images.pool",
    "InputRefused": "errors",
    "Interrupted": "errors",
    "MadeImage": "images.values:Made",
    "MediaError": "errors",
    "MediaInfo": "media",
    "Output": "profile",
    "Plan": "plan",
    "Profile": "profile",
    "Report": "report",
    "StepFailed": "errors",
    "ToolMissing": "errors",
    "Tools": "tools",
    "UsageError": "errors",
    "Verification": "verify",
    "VerifyFailed": "errors",
    "WantedImage": "images.values:Wanted",
    "find_tools": "tools",
    "inspect_image": "images.transform:inspect",
    "make_profile": "profile",
    "parse_operations": "images.grammar:parse_text",
    "parse_output": "profile",
    "plan": "planning:make_plan",
    "probe": "probe",
    "transcode": "transcode",
    "transform_image": "images.transform:transform",
    "verify": "verify",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "__version__":
        from importlib.metadata import version

        return version("telecine")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, inside = _HOMES[name].partition(":")
    return getattr(import_module(f"telecine.engine.{module}"), inside or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
