"""The grammar of the command that works on pictures: image.

What it does stands in `imaging`, which is imported only once it runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

COMMANDS = ("image",)


class _InOrder(argparse.Action):
    """Keeps options of different names in the order in which they were given."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        value = values if isinstance(values, str) else ""  # of an option without a value: []
        namespace.steps = [*namespace.steps, (option, value)]


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    """The grammar of this command: what `--help` and docs/reference/cli.md say."""
    what = "Make another picture of IN: resize, crop, rotate, mark, convert …"
    sub = commands.add_parser("image", help=what, description=what, allow_abbrev=False)
    sub.set_defaults(steps=[])
    sub.add_argument("sources", metavar="IN", nargs="+", type=Path)
    wish = sub.add_mutually_exclusive_group(required=True)
    wish.add_argument(
        "-o",
        dest="out",
        metavar="OUT",
        help="the file to write, a folder (DIR/) for several, or - for standard output; the name "
        "says the format",
    )
    wish.add_argument("--info", action="store_true", help="only say what IN is")

    def step(option: str, metavar: str | None, about: str) -> None:
        count = {"nargs": 0} if metavar is None else {"metavar": metavar}
        sub.add_argument(option, action=_InOrder, dest="steps", help=about, **count)

    step("--op", "OP", "an operation, such as resize:w=800,h=600,fit=cover; in the order given")
    step("--ops", "FILE", "a JSON list of operations, as a job takes it")
    step("--resize", "WxH", "fit within W × H; Wx and xH leave the other side to the aspect")
    step("--thumbnail", "WxH", "exactly W × H, of the part that matters")
    step("--crop", "WxH+X+Y", "cut out W × H at X, Y; WxH takes the middle")
    step("--rotate", "DEGREES", "turn clockwise")
    step("--flip", None, "swap left and right")
    step("--watermark", "FILE", "lay another picture over it, at the lower right")
    step("--watermark-text", "TEXT", "the same with a text")
    sub.add_argument(
        "--ref",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a picture that an operation names, as in watermark:image=NAME",
    )
    sub.add_argument(
        "--format", metavar="FORMAT", help="jpeg, png, webp, avif, gif or tiff (default: OUT's)"
    )
    sub.add_argument("--quality", metavar="Q", help="1 to 100, or auto: as small as looks the same")
    sub.add_argument("--max-bytes", metavar="N", help="as good as fits: 200k, 2M")
    sub.add_argument("--keep", metavar="WHAT", help="metadata that stays: icc+exif+gps+xmp")
    sub.add_argument("--first-frame", action="store_true", help="of an animation, a still picture")
    sub.add_argument("--svg", action="store_true", help="take drawings (SVG) too, cleaned before")
    sub.add_argument("--force", action="store_true", help="replace a file that is there")
    sub.add_argument("--json", action="store_true", help="print one JSON object a picture")
    sub.add_argument(
        "--ffmpeg", type=Path, metavar="PATH", help="another FFmpeg than the packaged one"
    )
