"""Any video in, a verified HLS + DASH ladder out. The names below are the public API.

    from pathlib import Path
    import telecine

    tools = telecine.find_tools()
    profile = telecine.make_profile()  # HLS, DASH and a poster
    report = telecine.transcode(Path("in.mov"), Path("out"), profile, tools=tools, jobs=2)

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
    from telecine.engine.media import MediaInfo
    from telecine.engine.plan import Plan
    from telecine.engine.plan import make_plan as plan
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
    "InputRefused",
    "Interrupted",
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
    "__version__",
    "find_tools",
    "make_profile",
    "parse_output",
    "plan",
    "probe",
    "transcode",
    "verify",
]

# Where each lives in the engine; "module:name" where it has another name there.
_HOMES = {
    "Cancel": "process",
    "Event": "events",
    "InputRefused": "errors",
    "Interrupted": "errors",
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
    "find_tools": "tools",
    "make_profile": "profile",
    "parse_output": "profile",
    "plan": "plan:make_plan",
    "probe": "probe",
    "transcode": "transcode",
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
