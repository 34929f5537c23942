"""The command `telecine`: words in, exit code out. It parses, calls the engine, and shows.

The engine and rich are imported inside the functions that need them: a mistyped option answers at
once, and a source that can be copied is playable before what is not needed yet is loaded.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from telecine import hosting, image_command, remote, wishes
from telecine.engine.errors import Interrupted, MediaError, StepFailed, UsageError
from telecine.engine.profile import (
    Profile,
)
from telecine.engine.words.protection import ContentKey
from telecine.printable import printable

if TYPE_CHECKING:
    from telecine.engine.plan import Plan
    from telecine.engine.process import Cancel
    from telecine.engine.tools import Tools

Command = Literal["transcode", "probe", "plan", "verify"]

EXIT_BROKEN_RULE = 1
MAX_JOBS = 256

_LOG_LINES = 5  # of a failed program, under the one line that says what failed
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line asks for, checked as far as that goes without looking at a file."""

    command: Command
    path: Path  # SOURCE, FILE, or DIR of `verify`
    folder: Path | None
    profile: Profile
    inputs: dict[str, Path]  # the files beside SOURCE, by the names that the profile gives them
    jobs: int
    force: bool
    decode: bool
    json: bool
    ffmpeg: Path | None
    key: ContentKey | None  # what `--key-file` holds


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name; default: this process's).

    Returns the exit code: 0 done, 1 `verify` found a broken rule, 2 usage, 3 input refused,
    4 failed, 130 interrupted. Says what went wrong in one line on standard error, and with
    `--json` also as a `failed` event on standard output.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    _open_standard_streams()
    try:
        first = words[0] if words else ""
        if first in hosting.COMMANDS:
            code = hosting.run(parser().parse_args(words))
        elif first in image_command.COMMANDS:
            code = _run_imaging(words)
        else:
            code = _run_remote(words) if first in remote.COMMANDS else _run(parse(words))
        sys.stdout.flush()
        return code
    except MediaError as error:
        return _failed(error, json="--json" in words)
    except KeyboardInterrupt:  # before the engine was there to be told
        return _failed(Interrupted(), json=False)
    except BrokenPipeError:
        _stdout_to_nowhere()
        return Interrupted.exit_code  # `telecine plan … | head`: not worth a word
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        text = f"{where}{error.strerror or error}"
        return _failed(StepFailed(text, code="system_error"), json="--json" in words)
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        text = f"{type(error).__name__}: {error} (this is a bug: please report it)"
        return _failed(StepFailed(text, code="internal"), json="--json" in words)


# --- words ------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Answers like the rest of the command: by an error with a code, not by exiting itself."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)", code="usage")


class _Version(argparse.Action):
    def __call__(self, *_: Any) -> None:
        import telecine

        print(f"telecine {telecine.__version__}")
        raise SystemExit(0)


@cache  # making it takes longer than reading a line with it
def parser() -> argparse.ArgumentParser:
    """The grammar of the command line: what `--help` and docs/reference/cli.md say."""
    top = _Parser(
        prog="telecine",
        description="Any video in, a verified HLS + DASH ladder out.",
        epilog="Exit codes: 0 done, 1 verify found a broken rule, 2 usage, 3 input refused, "
        "4 failed, 130 interrupted.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: Command, file: str, what: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=what, description=what, allow_abbrev=False)
        sub.add_argument("path", metavar=file, type=Path)
        sub.add_argument("--json", action="store_true", help=_JSON_HELP[name])
        if name != "verify":
            sub.add_argument(
                "--ffmpeg", type=Path, metavar="PATH", help="another FFmpeg than the packaged one"
            )
        return sub

    _add_wanted(command("transcode", "SOURCE", "Make the outputs of SOURCE in DIR."), required=True)
    command("probe", "FILE", "Say what FILE is.")
    _add_wanted(
        command("plan", "FILE", "Say what transcode would do, and why, without doing it."),
        required=False,
    )
    verify = command("verify", "DIR", "Check the outputs in DIR against every streaming rule.")
    verify.add_argument("--decode", action="store_true", help="decode everything as well")
    verify.add_argument(
        "--ffmpeg", type=Path, metavar="PATH", help="another FFmpeg than the packaged one"
    )
    wishes.add_key_file(verify)
    image_command.add_commands(commands)
    remote.add_commands(commands)
    hosting.add_commands(commands)
    return top


_JSON_HELP: dict[Command, str] = {
    "transcode": "print one event a line on standard output, and nothing else",
    "probe": "print everything that is known, as JSON",
    "plan": "print the whole plan and its command lines, as JSON",
    "verify": "print the rules and their figures, as JSON",
}


def _add_wanted(sub: argparse.ArgumentParser, *, required: bool) -> None:
    sub.add_argument(
        "-o",
        dest="folder",
        metavar="DIR",
        type=Path,
        required=required,
        help="the folder to write to; made where it is missing",
    )
    wishes.add_wishes(sub, wishes.OUTPUT_HELP)
    sub.add_argument(
        "--jobs",
        type=_jobs,
        default=default_jobs(len(os.sched_getaffinity(0))),
        metavar="N",
        help="chunks that are encoded at once (default: half the processors)",
    )
    sub.add_argument("--force", action="store_true", help="replace what another plan left in DIR")


def default_jobs(processors: int) -> int:
    """How many chunks at once keep `processors` busy: one, with four rungs to encode in threads,
    keeps 1.8 of them (Big Buck Bunny, 1080p to 360p)."""
    return max(1, processors // 2)


def _jobs(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_JOBS:
        raise argparse.ArgumentTypeError(f"a number from 1 to {MAX_JOBS}, not {text!r}")
    return int(text)


_SIDE = re.compile(r"\d{1,5}p?")


def spread_rungs(words: Sequence[str]) -> list[str]:
    """`--rung 1080 720` → `--rung 1080 --rung 720`, so that a file name may follow a rung, which
    argparse's own lists of values would swallow."""
    spread: list[str] = []
    in_rungs = False
    for n, word in enumerate(words):
        if word == "--":
            return [*spread, *words[n:]]
        follows = in_rungs and spread[-1] != "--rung" and _SIDE.fullmatch(word) is not None
        if follows:
            spread.append("--rung")
        spread.append(word)
        in_rungs = word == "--rung" or (in_rungs and _SIDE.fullmatch(word) is not None)
    return spread


def joined_clip(words: Sequence[str]) -> list[str]:
    """`--clip -0:30` → `--clip=-0:30`, which argparse would take for an option."""
    joined: list[str] = []
    for n, word in enumerate(words):
        if word == "--":
            return [*joined, *words[n:]]
        if joined and joined[-1] == "--clip" and word[:1] == "-" and word[1:2].isdigit():
            joined[-1] = f"--clip={word}"
        else:
            joined.append(word)
    return joined


def parse(words: Sequence[str]) -> Asked:
    """Raises `UsageError` (`usage`, `output_unknown`, `output_twice`, `bitrate_invalid`,
    `rung_invalid`, `clip_invalid`, `watermark_invalid` …); `--help` and `--version` print and
    raise `SystemExit`."""
    found = parser().parse_args(joined_clip(spread_rungs(words)))
    if "output" in found:
        wished = wishes.read_wishes(found)
    else:  # probe, verify
        key = wishes.read_key(found) if "key_file" in found else None
        wished = wishes.Wishes(Profile(), {}, key)
    return Asked(
        command=found.command,
        path=found.path,
        folder=getattr(found, "folder", None),
        profile=wished.profile,
        inputs=wished.inputs,
        jobs=getattr(found, "jobs", 1),
        force=getattr(found, "force", False),
        decode=getattr(found, "decode", False),
        json=found.json,
        ffmpeg=found.ffmpeg,
        key=wished.key,
    )


# --- commands ---------------------------------------------------------------------------------


def _run(asked: Asked) -> int:
    from telecine.engine.process import Cancel

    cancel = Cancel()
    commands = {"transcode": _transcode, "probe": _probe, "plan": _plan, "verify": _verify}
    with _stoppable(cancel, raising=True):
        return commands[asked.command](asked, cancel)


def _run_remote(words: Sequence[str]) -> int:
    """The commands that talk to a service."""
    found = parser().parse_args(joined_clip(spread_rungs(words)))
    from telecine.engine.process import Cancel

    cancel = Cancel()
    with _stoppable(cancel, raising=True):
        return remote.run(found, cancel)


def _run_imaging(words: Sequence[str]) -> int:
    """The command that works on pictures."""
    found = parser().parse_args(words)
    from telecine import imaging
    from telecine.engine.process import Cancel

    with _stoppable(Cancel(), raising=True):
        return imaging.run(found, lambda: _tools(found.ffmpeg, json=found.json))


@contextmanager
def _stoppable(cancel: Cancel, *, raising: bool) -> Iterator[None]:
    """A signal sets `cancel`, which kills every child and lets the engine tidy up. Where nothing
    waits for `cancel`, `raising` also ends this thread's work at once. A signal that was ignored
    (nohup) stays so."""

    def stop(*_: object) -> None:
        if cancel.is_set():
            return  # the first one is being obeyed
        cancel.set()
        if raising:
            raise Interrupted

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    ours = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            # Once stopped, this process only says so and ends: further signals come too late.
            signal.signal(number, signal.SIG_IGN if cancel.is_set() else before[number])


def _tools(ffmpeg: Path | None, *, json: bool) -> Tools:
    from telecine.engine.tools import find_tools

    # A user's own files on the user's own machine: without a sandbox we warn and go on.
    tools = find_tools(ffmpeg, allow_unsandboxed=True)
    if tools.sandbox.tier == "none" and not json:
        _say("warning: " + _UNSANDBOXED)
    return tools


_UNSANDBOXED = "this system has no sandbox: a hostile file could read what you can read"


def _transcode(asked: Asked, cancel: Cancel) -> int:
    from telecine import display
    from telecine.engine.transcode import transcode

    assert asked.folder is not None
    tools = _tools(asked.ffmpeg, json=asked.json)
    warnings = (_UNSANDBOXED,) if asked.json and tools.sandbox.tier == "none" else ()
    show = display.choose(json=asked.json, cancel=cancel, before=warnings)
    try:
        with show, _stoppable(cancel, raising=False):
            report = transcode(
                asked.path,
                asked.folder,
                asked.profile,
                tools=tools,
                jobs=asked.jobs,
                force=asked.force,
                on_event=show.hear,
                cancel=cancel,
                inputs=asked.inputs,
                key=asked.key,
            )
    except Interrupted:
        why = "interrupted: the same command again goes on where this one stopped"
        raise Interrupted(show.broken or why) from None
    show.summary(report, asked.folder)
    return 0


def _probe(asked: Asked, cancel: Cancel) -> int:
    from telecine.engine.probe import probe
    from telecine.engine.report import describe
    from telecine.engine.serial import to_plain

    tools = _tools(asked.ffmpeg, json=asked.json)
    with _stoppable(cancel, raising=False):
        info = probe(asked.path, tools, cancel=cancel)
    if asked.json:
        _print_json({"summary": list(describe(info)), **to_plain(info)})
        return 0
    for line in describe(info):
        _print(line)
    for warning in info.warnings:
        _say(f"warning: {warning}")
    return 0


def _plan(asked: Asked, cancel: Cancel) -> int:
    from telecine.engine.commands import commands
    from telecine.engine.planning import make_plan
    from telecine.engine.probe import probe, probe_inputs
    from telecine.engine.serial import to_plain
    from telecine.engine.tools import see_able

    tools = _tools(asked.ffmpeg, json=asked.json)
    with _stoppable(cancel, raising=False):
        found = probe(asked.path, tools, cancel=cancel)
        beside = probe_inputs(asked.profile, asked.inputs, tools, cancel=cancel)
        plan = make_plan(found, asked.profile, inputs=beside)
        see_able(tools, plan)
    folder = Path("DIR") if asked.folder is None else asked.folder
    beside_it = {name: path.resolve() for name, path in asked.inputs.items()}
    lines = commands(plan, tools, asked.path.resolve(), folder, beside_it)
    if asked.json:
        steps = [{"step": step, "argv": argv} for step, argv in lines]
        _print_json({"plan_id": plan.id, "plan": to_plain(plan), "commands": steps})
        return 0
    for line in _plan_lines(plan):
        _print(line)
    import shlex

    for step, argv in lines:
        _print(f"\n{step}\n  {shlex.join(argv)}")
    for warning in plan.warnings:
        _say(f"warning: {warning}")
    return 0


def _plan_lines(plan: Plan) -> list[str]:
    """The plan in plain words, with its reasons."""
    from telecine.engine.report import beside, changes, describe, films, protected, quality_reason

    timeline = plan.timeline
    lines = ["source"]
    lines += [f"  {line}" for line in (*describe(plan.source), *changes(plan))]
    if plan.parts:
        lines += ["films"]
    for film in films(plan):
        lines += [f"  {film.name:<7} from {film.start_s:.3f} s for {film.duration_s:.3f} s: "
                  f"{film.reason}"]  # fmt: skip
        lines += [f"          {line}" for line in film.source]
    lines += ["timeline"]
    rate = f", {float(timeline.rate):.3f} frames/s" if plan.renditions else ""
    rate += " (the mean)" if plan.renditions and not timeline.constant else ""
    lines += [
        f"  {float(timeline.duration_s):.3f} s{rate}, {timeline.segments} segments "
        f"of at most {timeline.target_duration_s} s, {len(plan.chunks)} chunks"
    ]
    lines += ["renditions"]
    for rendition in plan.renditions:
        ceiling = f" ≤ {rendition.ceiling_bps // 1000} kb/s" if rendition.mode == "encode" else ""
        lines += [
            f"  {rendition.name:<6} {rendition.size} {rendition.mode}{ceiling}"
            f"{'' if rendition.video_range == 'SDR' else f', {rendition.video_range}'}"
            f": {rendition.reason}"
        ]
    for sound in plan.sounds:
        track = f"{sound.title}, {sound.bitrate_bps // 1000} kb/s"
        lines += [f"  {sound.name:<6} {track}: {sound.reason}"]
    for text in plan.subtitles:
        lines += [f"  {text.name:<6} {text.title}: {text.reason}"]
    if plan.burned_in is not None:
        lines += [f"  burnt into the pictures: {plan.burned_in.reason}"]
    if (one := protected(plan)) is not None:
        lines += [f"encrypted by {one.scheme}, key {one.key_id} at {one.key_uri}"]
        lines += [f"  {one.reason}"]
    if plan.samples:
        places = ", ".join(f"{float(sample.start_s):.1f}" for sample in plan.samples)
        lines += ["quality", f"  {quality_reason(plan)}: {places} s"]
    if plan.files:
        lines += ["files"]
        lines += [f"  {file.path}" for file in plan.files]
    if found := beside(plan):
        lines += ["beside the film"]
        lines += [f"  {one.output:<10} {one.reason}" for one in found]
    if plan.dropped:
        lines += ["left out"]
        lines += [f"  {rung.name:<6} {rung.reason}" for rung in plan.dropped]
    if plan.copy_refusals:
        lines += ["the top rung is not a copy"]
        lines += [f"  {reason}" for reason in plan.copy_refusals]
    return lines


def _verify(asked: Asked, cancel: Cancel) -> int:
    from telecine.engine.verify import verify

    if not asked.path.is_dir():
        raise UsageError(f"no such folder: {asked.path}", code="folder_missing")
    tools = _tools(asked.ffmpeg, json=asked.json) if asked.decode else None
    found = verify(asked.path, decode=asked.decode, tools=tools, cancel=cancel, key=asked.key)
    broken = [rule.name for rule in found.rules if not rule.passed]
    if asked.json:
        rules = [{"name": r.name, "passed": r.passed, "figure": r.figure} for r in found.rules]
        _print_json({"passed": found.passed, "broken": broken, "rules": rules})
    else:
        for rule in found.rules:
            _print(f"{'ok    ' if rule.passed else 'BROKEN'}  {rule.name}: {rule.figure}")
        _print(f"{len(found.rules)} rules, {len(broken)} broken{': ' * bool(broken)}"
               f"{', '.join(broken)}")  # fmt: skip
    return EXIT_BROKEN_RULE if broken else 0


# --- saying -----------------------------------------------------------------------------------


def _failed(error: MediaError, *, json: bool) -> int:
    """One line on standard error, under it what a failed program said last; the exit code."""
    _say(f"error[{error.code}]: {error.message}")
    if error.exit_code == StepFailed.exit_code:
        for line in error.log_tail[-_LOG_LINES:]:
            print(f"  {printable(line)}", file=sys.stderr)
    if json:
        from telecine.display import EventLines
        from telecine.engine.events import Event

        EventLines().hear(
            Event(
                "failed",
                {"code": error.code, "message": error.message, "exit_code": error.exit_code},
            )
        )
    return error.exit_code


def _say(text: str) -> None:
    print(f"telecine: {printable(text)}", file=sys.stderr, flush=True)


def _print(text: str) -> None:
    """Words of a file (its name, a language, a codec) must not steer the terminal."""
    print("\n".join(printable(line) for line in text.split("\n")))


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=1, ensure_ascii=False))


# --- standard streams -------------------------------------------------------------------------


def _open_standard_streams() -> None:
    """Streams that were closed lead nowhere, so that no file of ours gets their number; text is
    UTF-8, and bytes of a file name that are not come out as escapes (which JSON reads, too)."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _stdout_to_nowhere() -> None:
    """What is still buffered must not fail again when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
