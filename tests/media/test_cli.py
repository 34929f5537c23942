"""The command on real clips: what it prints with and without a terminal, and how it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.media.running import TELECINE, Done, telecine
from tests.processes import alive, name_of, tree
from tests.terminal import on_terminal
from tests.waiting import until

from telecine.cli import main
from telecine.engine.events import EventName
from telecine.engine.planning import make_plan
from telecine.engine.probe import probe
from telecine.engine.process import Finished, Sandbox, run
from telecine.engine.profile import make_profile, parse_output
from telecine.engine.steps import encode, work
from telecine.engine.tools import find_tools


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """14 s of 480p with sound: three segments, two rungs of the default ladder to encode."""
    return made(
        tmp_path_factory.mktemp("cli") / "clip.mp4",
        ffmpeg,
        *("-f", "lavfi", "-i", "testsrc2=s=854x480:r=25:d=14", "-f", "lavfi", "-i", "sine=d=14"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-bf", "2"),
        *("-c:a", "aac", "-ac", "2"),
    )


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """Busy pictures that keep the encoder at work for longer than any test here waits."""
    return made(
        tmp_path_factory.mktemp("cli") / "long.mp4",
        ffmpeg,
        *("-f", "lavfi", "-i", "testsrc2=s=960x540:r=50:d=40"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-crf", "40", "-g", "250"),
    )


def made(path: Path, ffmpeg: str, *words: str) -> Path:
    argv = [ffmpeg, "-nostdin", "-loglevel", "error", *words, str(path)]
    subprocess.run(argv, check=True, timeout=120)
    return path


@dataclass(frozen=True, slots=True)
class Output:
    folder: Path
    done: Done

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.done.out.splitlines()]


@pytest.fixture(scope="session")
def output(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Output:
    folder = tmp_path_factory.mktemp("cli") / "out"
    done = telecine("transcode", clip, "-o", folder, "--rung", "480", "240", "--json")
    assert done.code == 0, done.err
    return Output(folder, done)


# --- transcode ----------------------------------------------------------------------------------


def test_without_a_terminal_one_line_names_the_playlist(clip: Path, tmp_path: Path) -> None:
    done = telecine("transcode", clip, "-o", "out", "--rung", "240", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    playlist, said = done.out.split(": ", 1)
    assert (tmp_path / playlist).read_text().startswith("#EXTM3U")
    assert done.out.count("\n") == 1
    assert said.startswith("240p, aac, poster.jpg; 14.0 s of media, ")
    assert "playable after " in said


def test_json_is_one_event_a_line_and_nothing_else(output: Output) -> None:
    assert output.done.err == ""
    events = output.events
    names = [event["event"] for event in events]
    assert set(names) <= set(get_args(EventName))
    assert names[:3] == ["started", "probed", "planned"]
    assert names[-2:] == ["verified", "done"]
    assert names.count("playable") == 1


def test_events_tell_the_story_of_the_run(output: Output) -> None:
    told: dict[str, dict[str, Any]] = {event["event"]: event for event in output.events}
    assert told["started"]["source"] == "clip.mp4"
    assert re.match(r"sandbox tier=\w+ ", told["started"]["sandbox"])
    assert told["probed"]["duration_s"] == pytest.approx(14, abs=0.1)
    rungs = [(rung["name"], rung["mode"]) for rung in told["planned"]["rungs"]]
    assert rungs == [("480p", "copy"), ("240p", "encode")]
    assert told["planned"]["duration_s"] == pytest.approx(14, abs=0.04)
    assert Path(told["playable"]["playlist"]) == output.folder / "master.m3u8"
    assert told["verified"]["broken"] == []
    assert told["verified"]["rules"] > 20
    report = json.loads((output.folder / "report.json").read_text())
    assert told["done"]["time_to_first_play_s"] == report["time_to_first_play_s"]
    assert told["done"]["time_to_first_play_s"] == told["playable"]["after_s"]


def test_every_step_of_the_plan_starts_and_finishes(output: Output) -> None:
    events = output.events
    planned = next(event["steps"] for event in events if event["event"] == "planned")
    for state in ("started", "finished"):
        seen = [e["id"] for e in events if e["event"] == "step" and e["state"] == state]
        assert sorted(seen) == sorted(planned)


def test_progress_rises_and_counts_every_rendition(output: Output) -> None:
    progress = [event for event in output.events if event["event"] == "progress"]
    fractions = [event["fraction"] for event in progress]
    assert fractions == sorted(fractions)
    assert all(0 <= fraction <= 1 for fraction in fractions)
    assert set(progress[-1]["rungs"]) == {"480p", "240p", "aac"}


def test_the_same_command_again_reuses_every_step(clip: Path, output: Output) -> None:
    done = telecine("transcode", clip, "-o", output.folder, "--rung", "480", "240", "--json")
    assert done.code == 0
    states = {e["state"] for e in map(json.loads, done.out.splitlines()) if e["event"] == "step"}
    assert states == {"reused"}


@pytest.mark.parametrize(
    "name",
    [b"-o.mp4", b"a b'c\"d;$(x)`y`.mp4", b"%d[0-9]*?.mp4", b"caf\xe9\n\x1b[2J.mp4", b"http:x.mp4"],
)
def test_a_file_may_have_any_name(name: bytes, clip: Path, tmp_path: Path) -> None:
    os.link(clip, os.fsencode(tmp_path) + b"/" + name)
    words = ("transcode", "--output", "mp3", "--json", "-o", "out", "--", name)
    done = telecine(*words, cwd=tmp_path)
    assert done.code == 0, done.err
    started = json.loads(done.out.splitlines()[0])
    assert os.fsencode(started["source"]) == name
    assert (tmp_path / "out" / "audio.mp3").stat().st_size > 100_000


def test_exit_codes(clip: Path, long_clip: Path, output: Output, tmp_path: Path) -> None:
    """0 done, 2 usage, 3 refused, 4 failed, 130 interrupted; 1 is `verify`'s (below)."""
    text = tmp_path / "text.mp4"
    text.write_text("no film")
    assert output.done.code == 0
    assert telecine("transcode", clip).code == 2
    assert telecine("transcode", text, "-o", tmp_path / "out").code == 3
    assert telecine("probe", clip, "--ffmpeg", tmp_path / "nowhere").code == 4
    with running(*encode_long(long_clip, tmp_path / "out")) as started:
        started.send_signal(signal.SIGINT)
        started.communicate(timeout=5)
    assert started.returncode == 130


# --- on a terminal -------------------------------------------------------------------------------


def on_a_terminal(*words: str | Path) -> tuple[int, str]:
    return on_terminal([TELECINE, *words], environment={**os.environ, "NO_COLOR": "1"})


def test_on_a_terminal_it_is_shown_live_and_summed_up(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text = on_a_terminal(
        "transcode", clip, "-o", out, "--rung", "480", "240", "--top", "encode"
    )
    assert code == 0
    text = re.sub(r"\x1b\[\d*m", "", text)  # bold and plain
    live, summary = text.rsplit("\x1b[2K", 1)  # the display wipes itself
    assert re.search(r"encoding +━+[^\n]* \d+%[^\n]* \d+\.\d×[^\n]* left \d", live)
    for rung, size in (("480p", "854×480"), ("240p", "426×240"), ("aac", "")):
        assert re.search(rf"{rung} +━+ +\d+% {size}", live)
    assert re.search(r"playable after \d+\.\d s: ", live)
    assert "\x1b[?25h" in live  # the cursor is there again
    lines = summary.replace("\r", "").strip().split("\n")
    assert lines[0].split()[:2] == ["rung", "size"]
    sizes = {line.split()[0]: line.split()[1] for line in lines[1:4]}
    assert sizes == {"480p": "854×480", "240p": "426×240", "aac": "sound"}
    assert any(line.startswith(f"{out}/poster.jpg  ") for line in lines)
    assert any(line.startswith(f"{out}/master.m3u8: ") for line in lines)


def test_on_a_terminal_a_refusal_is_still_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_text("no film")
    code, text = on_a_terminal("transcode", tmp_path / "x.mp4", "-o", tmp_path / "out")
    assert code == 3
    after = text.rsplit("\x1b[2K", 1)[-1]
    assert re.fullmatch(r"telecine: error\[not_media\]: [^\n]+\r\n", after)


# --- stopping ------------------------------------------------------------------------------------


@contextmanager
def running(
    *words: str | Path, stdout: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[str]]:
    """The command, once it has children that encode."""
    with subprocess.Popen(
        [TELECINE, *words], stdout=stdout, stderr=subprocess.PIPE, text=True
    ) as started:
        try:
            until(lambda: any("ffmpeg" in name_of(pid) for pid in tree(started.pid)[1:]), 30)
            yield started
        finally:
            started.kill()


def encode_long(clip: Path, out: Path) -> tuple[str | Path, ...]:
    return ("transcode", clip, "-o", out, "--output", "hls", "--top", "encode")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_every_child_within_a_second(
    number: signal.Signals, long_clip: Path, tmp_path: Path
) -> None:
    with running(*encode_long(long_clip, tmp_path / "out")) as started:
        children = tree(started.pid)[1:]
        started.send_signal(number)
        until(lambda: not any(map(alive, children)), 1)
        _, said = started.communicate(timeout=5)
    assert started.returncode == 130
    assert re.fullmatch(r"telecine: error\[interrupted\]: [^\n]+\n", said), said
    left = [path for path in (tmp_path / "out").rglob("*") if ".tmp" in path.name]
    assert left == []


def test_more_signals_change_nothing(long_clip: Path, tmp_path: Path) -> None:
    with running(*encode_long(long_clip, tmp_path / "out")) as started:
        for _ in range(5):
            started.send_signal(signal.SIGINT)
            time.sleep(0.02)
        _, said = started.communicate(timeout=5)
    assert started.returncode == 130
    assert said.count("\n") == 1, said


def test_a_signal_that_was_ignored_stays_so(clip: Path, tmp_path: Path) -> None:
    """`nohup telecine …` lives on when its terminal goes."""
    words = [TELECINE, "transcode", str(clip), "-o", str(tmp_path / "out"), "--rung", "240"]
    with subprocess.Popen(
        ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as started:
        until(lambda: len(tree(started.pid)) > 1, 30)
        started.send_signal(signal.SIGHUP)
        started.communicate(timeout=60)
    assert started.returncode == 0


def test_a_reader_that_leaves_ends_the_run(long_clip: Path, tmp_path: Path) -> None:
    words = (*encode_long(long_clip, tmp_path / "out"), "--json")
    with running(*words, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        children = tree(started.pid)[1:]
        first = started.stdout.readline()
        started.stdout.close()
        until(lambda: not any(map(alive, children)), 5)  # the next event tells it
        assert started.stderr is not None
        said = started.stderr.read()
        started.wait(timeout=5)
    assert json.loads(first)["event"] == "started"
    assert started.returncode == 130
    assert said == "telecine: error[interrupted]: nobody reads the events any more\n"


def test_a_reader_that_leaves_a_listing_hears_nothing_of_it(clip: Path) -> None:
    with subprocess.Popen(
        [TELECINE, "plan", clip], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.close()
        assert started.stderr.read() == ""
    assert started.returncode == 130


def test_closed_streams_do_no_harm(clip: Path, tmp_path: Path) -> None:
    words = ["transcode", str(clip), "-o", str(tmp_path / "out"), "--output", "mp3"]
    shell = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", TELECINE, *words, "--json"]
    assert subprocess.run(shell, timeout=60).returncode == 0
    assert (tmp_path / "out" / "audio.mp3").stat().st_size > 100_000


# --- probe and plan -----------------------------------------------------------------------------


def test_probe_says_what_a_file_is(clip: Path) -> None:
    done = telecine("probe", clip)
    assert (done.code, done.err) == (0, "")
    container, picture, sound = done.out.splitlines()
    assert re.fullmatch(r"mov, 14\.\d\d s, \d+\.\d MB", container)
    assert picture == "h264 854×480, 25.000 frames/s"
    assert sound == "aac stereo, 44.1 kHz"
    plain = json.loads(telecine("probe", clip, "--json").out)
    assert plain["summary"] == done.out.splitlines()
    assert [(v["width"], v["height"], v["rate"]) for v in plain["video"]] == [(854, 480, "25")]


def test_plan_says_reasons_and_command_lines(clip: Path, tmp_path: Path) -> None:
    words = ("plan", clip, "-o", "somewhere", "--rung", "480", "240")
    done = telecine(*words, cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert list(tmp_path.iterdir()) == []
    assert re.search(r"^  480p +854×480 copy: copied: ", done.out, re.M)
    assert re.search(r"^  240p +426×240 encode ≤ \d+ kb/s: ", done.out, re.M)
    commands = re.findall(r"^(\S+)\n  (\S*ffmpeg\S* .+)$", done.out, re.M)
    plain = json.loads(telecine(*words, "--json", cwd=tmp_path).out)
    assert [step for step, _ in commands] == [one["step"] for one in plain["commands"]]
    assert [step["id"] for step in plain["plan"]["steps"]] == [step for step, _ in commands]


def test_plan_is_the_plan_that_runs(clip: Path, output: Output) -> None:
    plain = json.loads(telecine("plan", clip, "--rung", "480", "240", "--json").out)
    assert plain["plan"] == json.loads((output.folder / ".telecine" / "plan.json").read_text())
    planned = next(event for event in output.events if event["event"] == "planned")
    assert plain["plan_id"] == planned["plan_id"]


@pytest.mark.thorough
@pytest.mark.parametrize("container", ["mp4", "ts"])
def test_the_commands_of_a_plan_are_those_that_run(
    container: str, ffmpeg: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every process that the steps start, word for word, but for the names of working folders.
    A transport stream takes the way over a working copy."""
    source = made(
        tmp_path / f"source.{container}", ffmpeg, "-stream_loop", "2", "-i", str(clip), "-c", "copy"
    )
    outputs = ("hls", "mp4:240p", "mp3", "flac", "poster")
    words = [word for output in outputs for word in ("--output", output)]
    words += ["--rung", "240", "--top", "encode"]
    out = tmp_path / "out"
    shown = json.loads(telecine("plan", source, "-o", out, *words, "--json").out)["commands"]

    ran: list[list[str]] = []

    def record(argv: list[str], **more: Any) -> Finished:
        ran.append(argv)
        return run(argv, **more)

    monkeypatch.setattr(work, "run", record)
    tools = find_tools()
    profile = make_profile(tuple(map(parse_output, outputs)), (240,), "encode")
    plan = make_plan(probe(source, tools), profile)
    for step in plan.steps:
        encode.run_step(plan, step.id, source, out, tools=tools)
    assert [one["argv"] for one in shown] == [
        [re.sub(r"/\.telecine/\.\w+\.\w+\.tmp/", "/.telecine/scratch/", word) for word in argv]
        for argv in ran
    ]
    assert (container == "ts") == any("matroska" in argv for argv in ran)


# --- verify -------------------------------------------------------------------------------------


def test_verify_passes_what_transcode_made(output: Output) -> None:
    done = telecine("verify", output.folder, "--decode")
    assert (done.code, done.err) == (0, "")
    *rules, last = done.out.splitlines()
    assert all(re.fullmatch(r"ok      [a-z0-9-]+: .+", rule) for rule in rules)
    assert last == f"{len(rules)} rules, 0 broken"
    plain = json.loads(telecine("verify", output.folder, "--json").out)
    assert plain["passed"] is True
    assert plain["broken"] == []


def test_verify_names_the_broken_rule_and_exits_1(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert telecine("transcode", clip, "-o", out, "--rung", "240").code == 0
    master = out / "master.m3u8"
    master.write_text(re.sub(r"RESOLUTION=\d+x\d+", "RESOLUTION=640x480", master.read_text()))
    done = telecine("verify", out)
    assert done.code == 1
    assert re.search(r"^BROKEN  resolution: .*640", done.out, re.M)
    assert re.search(r"^\d+ rules, \d+ broken: .*\bresolution\b", done.out, re.M)
    again = telecine("verify", out, "--json")
    plain = json.loads(again.out)
    assert (again.code, plain["passed"]) == (1, False)
    assert "resolution" in plain["broken"]


# --- sandbox and tools ----------------------------------------------------------------------------


def test_without_a_sandbox_it_warns_and_goes_on(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def none(*_: object, **__: object) -> Sandbox:
        return Sandbox("none")

    monkeypatch.setattr(Sandbox, "detect", none)
    assert main(["probe", str(clip)]) == 0
    said = capfd.readouterr()
    assert re.fullmatch(r"telecine: warning: [^\n]*no sandbox[^\n]*\n", said.err)
    words = ["transcode", str(clip), "-o", str(tmp_path / "out"), "--output", "mp3"]
    assert main(words) == 0
    assert "no sandbox" in capfd.readouterr().err
    assert main([*words, "--json", "--force"]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    first, second = map(json.loads, said.out.splitlines()[:2])
    assert first["sandbox"].startswith("sandbox tier=none")
    assert second["event"] == "warning"
    assert "no sandbox" in second["message"]


def test_another_ffmpeg_may_be_named(clip: Path, ffmpeg: str, tmp_path: Path) -> None:
    other = tmp_path / "my-ffmpeg"
    other.symlink_to(ffmpeg)
    done = telecine("plan", clip, "--ffmpeg", other, "--json")
    assert done.code == 0, done.err
    commands = json.loads(done.out)["commands"]
    assert {one["argv"][0] for one in commands} == {str(Path(ffmpeg).resolve())}
