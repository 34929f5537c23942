"""The library's names: what `telecine` gives, and that nothing else is promised."""

from __future__ import annotations

import subprocess
import sys

import pytest

import telecine
from telecine.engine.errors import MediaError

PUBLIC = {
    # what one does
    *("find_tools", "make_profile", "parse_output", "plan", "probe", "transcode", "verify"),
    *("inspect_image", "parse_operations", "transform_image"),
    # what one gives and gets
    *("ImageInfo", "ImageLimits", "ImageWorkers", "MadeImage", "WantedImage"),
    *("Cancel", "Event", "MediaInfo", "Output", "Plan", "Profile", "Report", "Tools"),
    *("Verification", "__version__"),
    # what can go wrong
    *("InputRefused", "Interrupted", "MediaError", "StepFailed", "ToolMissing", "UsageError"),
    "VerifyFailed",
}


def test_the_public_names_are_these() -> None:
    assert len(telecine.__all__) == len(set(telecine.__all__))
    assert set(telecine.__all__) == PUBLIC
    assert set(dir(telecine)) >= PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_name_is_there_and_says_what_it_is(name: str) -> None:
    given = getattr(telecine, name)
    if name != "__version__":
        assert callable(given)
        assert given.__doc__


def test_functions_are_the_engines() -> None:
    from telecine.engine.planning import make_plan
    from telecine.engine.transcode import transcode

    assert telecine.plan is make_plan
    assert telecine.transcode is transcode


def test_every_error_is_a_media_error_with_an_exit_code() -> None:
    codes = {
        name: getattr(telecine, name).exit_code
        for name in PUBLIC
        if isinstance(getattr(telecine, name), type)
        and issubclass(getattr(telecine, name), MediaError)
    }
    assert codes == {
        "MediaError": 4,
        "UsageError": 2,
        "InputRefused": 3,
        "StepFailed": 4,
        "ToolMissing": 4,
        "VerifyFailed": 4,
        "Interrupted": 130,
    }


def test_no_other_name_is_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'transmogrify'"):
        _ = telecine.transmogrify


def test_importing_the_library_loads_no_engine() -> None:
    script = "import sys, telecine; print(sum(m.startswith('telecine.') for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "0\n"
