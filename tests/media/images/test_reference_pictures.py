"""The pictures of docs/reference/image-operations.md: each is what `transform` makes today.

    WRITE_PICTURES=1 pytest tests/media/images/test_reference_pictures.py

writes them anew; look at them before they are committed.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.media.images import scenery

from telecine.engine.images import grammar
from telecine.engine.images.operations import OPERATIONS, Operation
from telecine.engine.images.pool import ImageWorkers
from telecine.engine.images.transform import transform
from telecine.engine.images.values import Wanted

PICTURES = Path(__file__).parents[3] / "docs" / "reference" / "images"
PAGE = PICTURES.parent / "image-operations.md"

# Name of the picture: what it shows. Of the landscape, unless a name says another.
SHOWN = {
    "resize-inside": "resize:w=160,h=160",
    "resize-cover": "resize:w=160,h=160,fit=cover",
    "resize-cover-right": "resize:w=160,h=160,fit=cover,position=right",
    "resize-fill": "resize:w=160,h=160,fit=fill",
    "resize-pad": "resize:w=160,h=160,fit=pad,background=1c4669",
    "thumbnail-attention": "thumbnail:w=120,h=160",
    "thumbnail-entropy": "thumbnail:w=120,h=160,crop=entropy",
    "thumbnail-focal": "thumbnail:w=120,h=160,crop=focal,x=0.22,y=0.3",
    "crop": "crop:w=120,h=120,x=170,y=60",
    "rotate": "rotate:angle=12,background=ffffff",
    "rotate-quarter": "rotate:angle=90",
    "flip": "flip",
    "flip-vertical": "flip:axis=vertical",
    "watermark": "watermark:image=logo,x=10,y=10,scale=0.2,opacity=0.8",
    "watermark-text": "watermark:text=Telecine,position=top-right,x=10,y=10,scale=0.4",
    "watermark-tile": "watermark:text=Sample,scale=0.2,angle=-30,tile=1,x=10,y=10,opacity=0.5",
    "blur": "blur:sigma=4",
    "sharpen": "sharpen:sigma=1,amount=2",
    "grayscale": "grayscale",
    "sepia": "sepia",
    "brightness": "brightness:amount=1.4",
    "contrast": "contrast:amount=1.6",
    "saturation": "saturation:amount=2",
    "round": "round:radius=40",
    "background": "background:color=ffd54a",
    "trim": "trim",
    "convert": "convert:quality=5",
}
SOURCES = {"background": "before-logo", "trim": "before-scan"}
BEFORE = {
    "before": scenery.landscape,
    "before-logo": scenery.logo,
    "before-scan": scenery.scan,
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    made = {}
    for name, draw in BEFORE.items():
        made[name] = folder / f"{name}.png"
        draw().save(made[name])
    return made


def operations_of(name: str) -> tuple[Operation, ...]:
    """Those of the picture; as WebP of a quality at which nobody sees a difference."""
    text = SHOWN.get(name, "")
    return grammar.parse_text(
        text if "convert" in text else f"{text};convert:quality=88".lstrip(";")
    )


@pytest.mark.parametrize("name", [*BEFORE, *SHOWN])
def test_each_picture_is_what_the_operation_makes(
    name: str, workers: ImageWorkers, sources: dict[str, Path]
) -> None:
    source = sources[SOURCES.get(name, name if name in BEFORE else "before")]
    wanted = Wanted(operations_of(name), "webp")
    made = transform(workers, source, wanted, refs={"logo": sources["before-logo"]}).data
    committed = PICTURES / f"{name}.webp"
    if os.environ.get("WRITE_PICTURES"):
        PICTURES.mkdir(exist_ok=True)
        committed.write_bytes(made)
    now, then = (
        np.asarray(Image.open(each).convert("RGBA"), float)
        for each in (io.BytesIO(made), committed)
    )
    assert now.shape == then.shape
    # Another release of an encoder may round otherwise.
    assert np.abs(now - then).mean() < 1


def test_every_operation_has_a_picture_and_every_picture_its_place() -> None:
    shown = {type(each).name for name in SHOWN for each in operations_of(name)}
    assert shown == set(OPERATIONS)
    files = {path.name for path in PICTURES.iterdir()}
    assert files == {f"{name}.webp" for name in (*BEFORE, *SHOWN)}
    page = PAGE.read_text()
    assert [name for name in files if f"(images/{name})" not in page] == []


def test_the_pictures_are_small() -> None:
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) <= 300_000
