"""How the browser tests call Telecine: as its user does, by the installed command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

TELECINE = str(Path(sys.executable).with_name("telecine"))

Transcode = Callable[[str, Callable[[Path], Path], Sequence[str]], Path]
