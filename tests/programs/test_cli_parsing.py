"""What a command line means, and what is said about one that means nothing."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from telecine.cli import Asked, default_jobs, main, parse, parser, spread_rungs
from telecine.engine.errors import UsageError
from telecine.engine.profile import Output

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def test_transcode_with_everything() -> None:
    asked = parse(
        shlex.split(
            "transcode in.mov -o out --output hls --output mp4:720p --output mp3@192k --rung 1080 "
            "--rung 480p --top copy --jobs 3 --json --force --ffmpeg /opt/ffmpeg"
        )
    )
    assert asked.command == "transcode"
    assert (asked.path, asked.folder) == (Path("in.mov"), Path("out"))
    assert asked.profile.outputs == (
        Output("hls"),
        Output("mp4", 720),
        Output("mp3", bitrate_bps=192_000),
    )
    assert asked.profile.rungs == (1080, 480)
    assert asked.profile.top == "copy"
    assert (asked.jobs, asked.json, asked.force, asked.decode) == (3, True, True, False)
    assert asked.ffmpeg == Path("/opt/ffmpeg")


def test_transcode_with_nothing_but_what_it_needs() -> None:
    asked = parse(["transcode", "in.mov", "-o", "out"])
    assert asked.profile.outputs == (Output("hls"), Output("poster"))
    assert (asked.profile.rungs, asked.profile.top) == ((), "auto")
    assert (asked.json, asked.force, asked.ffmpeg) == (False, False, None)
    assert asked.jobs >= 1


@pytest.mark.parametrize(
    ("processors", "jobs"), [(1, 1), (2, 1), (3, 1), (4, 2), (16, 8), (128, 64)]
)
def test_half_the_processors_encode_chunks(processors: int, jobs: int) -> None:
    assert default_jobs(processors) == jobs


@pytest.mark.parametrize(
    ("words", "path", "rungs"),
    [
        ("transcode a.mov -o d --rung 1080 720 480", "a.mov", (1080, 720, 480)),
        ("transcode --rung 1080 720p a.mov -o d", "a.mov", (1080, 720)),
        ("transcode --rung 1080 -o d a.mov", "a.mov", (1080,)),
        ("transcode -o d --rung 480 --rung 720 -- 360", "360", (720, 480)),
        ("transcode -o d 360 --rung 480", "360", (480,)),
    ],
)
def test_rungs_may_follow_one_another(words: str, path: str, rungs: tuple[int, ...]) -> None:
    asked = parse(words.split())
    assert asked.path == Path(path)
    assert asked.profile.rungs == rungs


def test_a_rung_without_a_side_is_left_for_the_parser_to_refuse() -> None:
    assert spread_rungs(["--rung", "--rung", "720", "480"]) == [
        *("--rung", "--rung", "720"),
        *("--rung", "480"),
    ]


@pytest.mark.parametrize("name", ["-dash.mp4", "--json", "--"])
def test_a_file_may_have_any_name_after_two_dashes(name: str) -> None:
    asked = parse(["probe", "--", name])
    assert (asked.path, asked.json) == (Path(name), False)


def test_plan_takes_what_transcode_takes() -> None:
    words = "a.mov --output mp4:source --rung 720 --top encode --jobs 2 --force -o d"
    options = shlex.split(words)
    planned, made = parse(["plan", *options]), parse(["transcode", *options])
    assert planned.profile == made.profile
    assert parse(["plan", "a.mov"]).folder is None


def test_verify_takes_a_folder() -> None:
    asked = parse(["verify", "out", "--decode", "--json"])
    assert (asked.command, asked.path, asked.decode, asked.json) == (
        "verify",
        Path("out"),
        True,
        True,
    )


WRONG = [
    ("", "usage", "COMMAND"),
    ("transmogrify x", "usage", "transmogrify"),
    ("transcode", "usage", "SOURCE, -o"),
    ("transcode a.mov", "usage", "-o"),
    ("transcode a.mov -o d extra", "usage", "extra"),
    ("transcode a.mov -o d --frobnicate", "usage", "--frobnicate"),
    ("transcode a.mov -o d --jo 2", "usage", "--jo"),  # nothing is abbreviated
    ("transcode a.mov -o d --jobs 0", "usage", "from 1 to 256, not '0'"),
    ("transcode a.mov -o d --jobs many", "usage", "not 'many'"),
    ("transcode a.mov -o d --jobs ²", "usage", "not '²'"),
    ("transcode a.mov -o d --top best", "usage", "'best'"),
    ("transcode a.mov -o d --output avi", "output_unknown", "'avi'"),
    ("transcode a.mov -o d --output mp4", "output_unknown", "mp4:720p"),
    ("transcode a.mov -o d --output flac@192k", "bitrate_invalid", "flac@192k"),
    ("transcode a.mov -o d --output mp3@9k", "bitrate_invalid", "16k to 512k"),
    ("transcode a.mov -o d --output aac --output aac@96k", "output_twice", "audio.m4a"),
    ("transcode a.mov -o d --rung 12", "rung_invalid", "16 to 8192"),
    ("transcode a.mov -o d --rung 99999", "rung_invalid", "'99999'"),
    ("probe", "usage", "FILE"),
    ("probe a b", "usage", "b"),
    ("probe a -o d", "usage", "-o"),
    ("verify a --top copy", "usage", "--top"),
]


@pytest.mark.parametrize(("words", "code", "named"), WRONG, ids=[words for words, *_ in WRONG])
def test_a_wrong_command_line_is_one_line_and_exit_2(
    words: str, code: str, named: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert re.fullmatch(rf"telecine: error\[{code}\]: [^\n]+\n", said.err)
    assert named in said.err
    if code == "usage":
        assert "--help)" in said.err


def test_with_json_a_wrong_command_line_is_also_an_event(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(["transcode", "--json", "a.mov"]) == 2
    said = capfd.readouterr()
    event = json.loads(said.out)
    assert said.out.count("\n") == 1
    assert (event["event"], event["code"], event["exit_code"]) == ("failed", "usage", 2)
    assert event["message"] in said.err


def test_a_name_cannot_steer_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "no\nsuch\x1b[2Jfolder\udcff"]) == 2
    said = capfd.readouterr()
    assert said.err == (
        "telecine: error[folder_missing]: no such folder: no\\nsuch\\x1b[2Jfolder\\udcff\n"
    )


@pytest.mark.parametrize(
    ("raised", "code", "text"),
    [
        (OSError(28, "No space left on device", "d/x"), "system_error", "d/x: No space left"),
        (ValueError("odd"), "internal", "ValueError: odd (this is a bug: please report it)"),
    ],
)
def test_what_nobody_foresaw_is_exit_4_too(
    raised: Exception,
    code: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def break_down(asked: Asked) -> int:
        raise raised

    monkeypatch.setattr("telecine.cli._run", break_down)
    assert main(["probe", "x", "--json"]) == 4
    said = capfd.readouterr()
    assert f"telecine: error[{code}]: " in said.err
    assert text in said.err
    assert ("Traceback" in said.err) == (code == "internal")
    assert json.loads(said.out)["code"] == code


# Each of these costs a command as much as parsing its words does.
SLOW_TO_LOAD = {"asyncio", "concurrent", "ctypes", "http", "logging", "multiprocessing", "sqlite3"}
SLOW_TO_LOAD |= {"ssl", "subprocess", "unittest", "xml"}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--version", r"telecine \d+\.\d+\.\d+\n"),
        ("--help", r".*transcode.*probe.*plan.*verify.*"),
    ],
)
def test_version_and_help_load_little(word: str, said: str) -> None:
    """What a compliant source may take to be playable, 2 s, is not spent on imports."""
    script = (
        "import sys; before = set(sys.modules); from telecine.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(*{m.partition('.')[0] for m in set(sys.modules) - before}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, word], capture_output=True, text=True)
    assert re.fullmatch(said, done.stdout, re.DOTALL)
    loaded = set(done.stderr.split())
    assert loaded & SLOW_TO_LOAD == set()
    assert loaded - sys.stdlib_module_names == {"telecine"}


def test_a_wrong_word_loads_neither_the_engine_nor_rich() -> None:
    script = (
        "import sys; from telecine.cli import main; main(['transcode', '--oops'])\n"
        "print([m for m in ('telecine.engine.process', 'telecine.engine.plan', 'rich')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n"


# --- the reference ------------------------------------------------------------------------------


def test_the_reference_names_every_option_of_every_command_and_no_other() -> None:
    text = REFERENCE.read_text()
    sections = dict(re.findall(r"^## `telecine (\w+)[^\n]*\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    commands = _commands(parser())
    assert set(sections) == set(commands)
    for name, command in commands.items():
        documented = set(re.findall(r"^\| `(-[-\w]+)", sections[name], re.M))
        assert documented == _options(command), name


def test_the_reference_names_every_exit_code() -> None:
    table = re.findall(r"^\| (\d+) \|", REFERENCE.read_text(), re.M)
    assert table == ["0", "1", "2", "3", "4", "130"]


def _commands(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    actions = [a for a in top._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(actions[0].choices)


def _options(command: argparse.ArgumentParser) -> set[str]:
    words = {word for action in command._actions for word in action.option_strings}
    return words - {"-h", "--help"}


def test_parse_raises_what_it_says() -> None:
    with pytest.raises(UsageError, match="see telecine --help"):
        parse([])
