"""A decoder that the kernel ends: what it left is neither a picture nor the file's fault."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from telecine.engine import process
from telecine.engine.errors import StepFailed
from telecine.engine.images import decoding
from telecine.engine.images.values import ImageLimits
from telecine.engine.process import Finished
from telecine.engine.tools import Tools


@pytest.mark.parametrize("how_far", [0.0, 1.0])
def test_a_decoder_that_is_killed_says_nothing_of_the_file(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how_far: float
) -> None:
    """FFmpeg's own bytes, as far as they had come, and then the end that `kill -9` gives it."""
    path = tmp_path / "a.bmp"
    Image.new("RGB", (40, 30), (200, 30, 40)).save(path)
    run = process.run

    def killed(*args: Any, **more: Any) -> Finished:
        came = bytearray()
        sinks = dict.fromkeys(more["sinks"], came.extend)
        finished = run(*args, **{**more, "sinks": sinks})
        for take in more["sinks"].values():
            take(bytes(came[: round(len(came) * how_far)]))
        return replace(finished, returncode=137, signal=signal.SIGKILL)

    assert decoding.decode(path, "bmp", tools, ImageLimits())[0].blobs == 1
    monkeypatch.setattr(decoding, "run", killed)
    with pytest.raises(StepFailed) as raised:
        decoding.decode(path, "bmp", tools, ImageLimits())
    assert (raised.value.code, raised.value.retryable) == ("decoder_killed", True)
