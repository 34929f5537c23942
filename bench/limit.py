"""The least that a thumbnail can take: libvips alone, in a process that does nothing else.

Run as a program of its own (`python -m bench.limit`): a line of JSON for each batch on stdin (a
`Batch`), the seconds that each of its thumbnails took as a line of JSON on stdout. What `vips
thumbnail` does with the same options, without the start of a process: the wheel of libvips has no
such program.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

UNBOUNDED = 10_000_000  # libvips' own word for a side that the other one decides


@dataclass(frozen=True, slots=True)
class Batch:
    """The same thumbnail so many times: of the file `source` to the file `result`."""

    source: str
    result: str
    width: int
    options: dict[str, Any]  # of libvips' saver
    times: int


def run(batch: Batch) -> list[float]:
    import pyvips  # here, so that who only writes batches has no libvips in its process

    pyvips.cache_set_max(0)  # every thumbnail is made
    taken_s = []
    for _ in range(batch.times):
        began_s = time.perf_counter()
        made = pyvips.Image.thumbnail(batch.source, batch.width, height=UNBOUNDED, size="down")
        made.write_to_file(batch.result, keep="none", **batch.options)
        taken_s.append(time.perf_counter() - began_s)
    return taken_s


def main() -> None:
    os.environ["VIPS_CONCURRENCY"] = "1"  # as the workers have it
    os.environ["VIPS_BLOCK_UNTRUSTED"] = "1"
    for line in sys.stdin:
        print(json.dumps(run(Batch(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
