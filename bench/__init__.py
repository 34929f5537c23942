"""The benchmark: our ladder beside three other ways to make it, in one run (`make bench`)."""

from pathlib import Path

OUT = Path(__file__).parent / "out"  # results, and what is made on the way
