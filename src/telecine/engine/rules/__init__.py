"""Pure: the streaming rules, each a small function over what `verify` found on disk.

A rule gives what breaks it and the measured figure. Its name is stable; its docstring says what it
checks, its source which text demands that (docs/reference/rules.md is the table of all). What
cannot be read breaks one rule, the one that says it must be readable; the others judge the rest.

Sources: Apple n.n is the HLS authoring specification for Apple devices; RFC 8216 is HLS; CMAF is
ISO/IEC 23000-19; CENC is ISO/IEC 23001-7; ISOBMFF is ISO/IEC 14496-12; DASH is ISO/IEC 23009-1;
EBU R 128 is the broadcasters' recommendation on loudness; "plan" is this project's promise
that what was planned is what was made.
"""

# Rules are judged and printed in the order of these imports.
# ruff: noqa: I001

from __future__ import annotations

from telecine.engine.rules import files as files
from telecine.engine.rules import pictures as pictures
from telecine.engine.rules import timing as timing
from telecine.engine.rules import playlists as playlists
from telecine.engine.rules import sounds as sounds
from telecine.engine.rules import dash as dash
from telecine.engine.rules import protection as protection
from telecine.engine.rules import subtitles as subtitles
from telecine.engine.rules import sizes as sizes
from telecine.engine.rules import outputs as outputs
from telecine.engine.rules import beside as beside
from telecine.engine.rules.table import RULES as RULES
from telecine.engine.rules.table import RuleResult as RuleResult
from telecine.engine.rules.table import Verification as Verification
from telecine.engine.rules.table import judge as judge
