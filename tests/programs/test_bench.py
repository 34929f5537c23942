"""The benchmark's own arithmetic and watcher: what it says must be right before it is believed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench import quality
from bench.contestants import cascade
from bench.figures import (
    Beside,
    Cell,
    Result,
    Row,
    Rung,
    Verdict,
    aim_rows,
    aims,
    bytes_at_equal_vmaf,
    cost_rows,
    markdown_table,
    quality_rows,
    rung_verdict,
    spread,
    text_table,
)
from bench.measure import ContestantFailed, Request, measure
from bench.playlists import playable, read_media, read_variants
from bench.quality import missed
from tests.processes import tree
from tests.waiting import until

MASTER = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="a, b",DEFAULT=YES,URI="sound.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1.640028,mp4a.40.2",RESOLUTION=1920x1080,AUDIO="aac"
1080.m3u8

#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=1280x720
720.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="mp4a.40.2",AUDIO="aac"
sound.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=2,CODECS="avc1.640028,ac-3",RESOLUTION=1920x1080,AUDIO="surround"
1080.m3u8
"""


def media(name: str) -> str:
    return f'#EXTM3U\n#EXT-X-MAP:URI="{name}-init.mp4"\n#EXTINF:6.0,\n{name}-1.m4s\n'


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)


def test_variants_are_those_with_pictures_in_order_and_each_once(tmp_path: Path) -> None:
    write(tmp_path, {"master.m3u8": MASTER})
    found = read_variants(tmp_path / "master.m3u8")
    assert [(v.height, v.playlist.name, v.sound and v.sound.name) for v in found] == [
        (1080, "1080.m3u8", "sound.m3u8"),
        (720, "720.m3u8", None),
    ]


def test_media_playlist_gives_init_and_segments(tmp_path: Path) -> None:
    write(tmp_path, {"720.m3u8": media("720")})
    found = read_media(tmp_path / "720.m3u8")
    assert found.init == tmp_path / "720-init.mp4"
    assert found.segments == (tmp_path / "720-1.m4s",)


COMPLETE = {
    "master.m3u8": MASTER,
    "1080.m3u8": media("1080"),
    "sound.m3u8": media("sound"),
    "1080-init.mp4": "x",
    "1080-1.m4s": "x",
    "sound-init.mp4": "x",
    "sound-1.m4s": "x",
}


def test_playable_needs_every_file_of_the_first_variant(tmp_path: Path) -> None:
    for missing in COMPLETE:
        folder = tmp_path / missing
        folder.mkdir()
        write(folder, {name: text for name, text in COMPLETE.items() if name != missing})
        assert not playable(folder / "master.m3u8"), missing
        write(folder, COMPLETE)
        assert playable(folder / "master.m3u8")


def test_playable_is_false_for_an_empty_segment_and_half_a_playlist(tmp_path: Path) -> None:
    write(tmp_path, COMPLETE | {"sound-1.m4s": ""})
    assert not playable(tmp_path / "master.m3u8")
    write(tmp_path, COMPLETE | {"master.m3u8": MASTER[:60]})
    assert not playable(tmp_path / "master.m3u8")


SPIN = "import time\nwhile time.process_time() < 0.15: pass\n"
GRANDCHILD = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {SPIN!r}])\n"


def request(folder: Path, *programs: str) -> Request:
    commands = [[sys.executable, "-c", program] for program in programs]
    return Request(commands, {}, str(folder / "master.m3u8"), str(folder / "log"))


def test_cpu_of_grandchildren_and_of_every_command_counts(tmp_path: Path) -> None:
    measured = measure(request(tmp_path, SPIN, GRANDCHILD))
    assert 0.3 <= measured.cpu_s <= 0.8
    assert measured.wall_s >= 0.3
    assert measured.first_play_s is None


def test_memory_of_the_tree_and_of_its_largest_process(tmp_path: Path) -> None:
    hold = "import time; kept = bytearray(60_000_000); time.sleep(0.5)"
    twice = (
        "import subprocess, sys\n"
        f"both = [subprocess.Popen([sys.executable, '-c', {hold!r}]) for _ in range(2)]\n"
        "[child.wait() for child in both]\n"
    )
    measured = measure(request(tmp_path, twice))
    assert 60e6 < measured.peak_process_bytes < 110e6
    assert 120e6 < measured.peak_tree_bytes < 250e6


def test_first_play_is_seen_when_it_happens(tmp_path: Path) -> None:
    write(tmp_path, {k: v for k, v in COMPLETE.items() if k != "master.m3u8"})
    master = tmp_path / "master.m3u8"
    late = (
        f"import time, pathlib\ntime.sleep(0.2)\n"
        f"pathlib.Path({str(master)!r}).write_text({MASTER!r})\ntime.sleep(0.3)\n"
    )
    measured = measure(request(tmp_path, late))
    assert measured.first_play_s is not None
    assert 0.2 <= measured.first_play_s < measured.wall_s - 0.2


def test_a_playlist_written_at_the_end_counts_at_the_end(tmp_path: Path) -> None:
    write(tmp_path, {k: v for k, v in COMPLETE.items() if k != "master.m3u8"})
    wanted = request(tmp_path, "import time; time.sleep(0.1)")
    measured = measure(Request(wanted.commands, {wanted.master: MASTER}, wanted.master, wanted.log))
    assert measured.first_play_s == pytest.approx(measured.wall_s, abs=0.05)


def test_a_contestant_that_fails_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ContestantFailed, match="exit 3"):
        measure(request(tmp_path, "raise SystemExit(3)"))


def test_a_stopped_measurement_leaves_no_process(tmp_path: Path) -> None:
    """SIGTERM to the outer process: neither the measuring one nor the contestant lives on."""
    pid_file = tmp_path / "pid"
    sleeper = (
        "import os, pathlib, time\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()) + ' ')\ntime.sleep(60)\n"
    )
    wanted = request(tmp_path, sleeper)
    outer = subprocess.Popen(
        [sys.executable, "-c", "import sys; from bench import measure as m\nm.end_on_sigterm()\n"
         f"m.measure(m.Request({wanted.commands!r}, {{}}, {wanted.master!r}, {wanted.log!r}))"]
    )  # fmt: skip
    until(lambda: pid_file.exists() and pid_file.read_text().endswith(" "), 10)
    below = tree(outer.pid)[1:]
    assert int(pid_file.read_text()) in below
    outer.terminate()
    assert outer.wait(timeout=10) == 143
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]


def test_tree_follows_children_into_other_sessions() -> None:
    child = subprocess.Popen([sys.executable, "-c", GRANDCHILD], start_new_session=True)
    try:
        until(lambda: len(tree(child.pid)) == 2, 5)
    finally:
        child.wait()


@pytest.mark.parametrize(
    ("vmaf_change", "bytes_change", "verdict"),
    [
        (0.0, 0.0, "met"),
        (-0.3, 0.05, "met"),
        (0.3, -0.05, "met"),
        (0.31, 0.0, "better"),
        (0.0, -0.051, "better"),
        (-0.31, -0.2, "not met"),  # fewer bytes do not buy lost quality
        (2.0, 0.051, "not met"),  # nor does quality buy bytes
    ],
)
def test_rung_verdict(vmaf_change: float, bytes_change: float, verdict: Verdict) -> None:
    assert rung_verdict(vmaf_change, bytes_change) == verdict


def result(key: str, cpu_s: list[float], *, vmaf: float, size: int, play: list[float]) -> Result:
    n = len(cpu_s)
    rungs = [Rung(1080, key != "ours-copy", 48, size, vmaf), Rung(360, True, 48, size, vmaf)]
    return Result(key, key, cpu_s, cpu_s, [2e6] * n, [1e6] * n, play, rungs)


def test_aims_compare_medians_with_their_bars() -> None:
    results = [
        result("ours-copy", [5.4, 5.5, 90.0], vmaf=80.0, size=1000, play=[1.0, 1.0, 1.0]),
        result("ours-encode", [7.6, 7.6, 7.6], vmaf=79.6, size=1000, play=[4.0, 5.2, 5.1]),
        result("per-rung", [10.0, 10.0, 10.0], vmaf=80.0, size=1000, play=[10.0] * 3),
        result("split", [7.0, 7.2, 7.4], vmaf=80.0, size=1000, play=[7.0] * 3),
    ]
    found = {aim.what: (aim.figure, aim.verdict) for aim in aims(results, 48)}
    assert found == {
        "top copied: CPU, of one process per rung": ("0.550 ×", "met"),
        "top copied: time to first play": ("1.00 s", "met"),
        "top copied: 360p beside its counterpart": (
            "VMAF +0.00, bytes +0.0%, 48 pictures",
            "met",
        ),
        "top encoded: CPU, of one process per rung": ("0.760 ×", "not met"),
        "top encoded: CPU, of the hand-written command": ("1.056 ×", "not met"),
        "top encoded: time to first play": ("5.10 s", "not met"),
        "top encoded: 1080p beside its counterpart": (
            "VMAF -0.40, bytes +0.0%, 48 pictures",
            "not met",
        ),
        "top encoded: 360p beside its counterpart": (
            "VMAF -0.40, bytes +0.0%, 48 pictures",
            "not met",
        ),
    }


def rungs(*points: tuple[float, int]) -> list[Rung]:
    return [Rung(n, True, 48, size, vmaf) for n, (vmaf, size) in enumerate(points)]


H264 = rungs((90.0, 800), (80.0, 400), (60.0, 200), (40.0, 100))


@pytest.mark.parametrize(
    ("ours", "ratio"),
    [
        (rungs((90.0, 400), (80.0, 200), (60.0, 100), (40.0, 50)), 0.5),
        (rungs((85.0, 283), (80.0, 200), (60.0, 100), (50.0, 71)), 0.5),  # of a part of the range
        # Half the bytes where it is best, the same where it is worst, a straight line between: the
        # mean of the logarithms is half that of 0.5.
        (rungs((80.0, 200), (60.0, 200)), 0.5**0.5),
        (rungs((40.0, 100), (39.0, 90)), None),  # one quality in common is no range
        (rungs((99.0, 900), (95.0, 700)), None),
        (rungs((80.0, 100)), None),
        ([], None),
    ],
)
def test_bytes_at_equal_vmaf(ours: list[Rung], ratio: float | None) -> None:
    found = bytes_at_equal_vmaf(ours, H264)
    assert found == (None if ratio is None else pytest.approx(ratio, rel=0.01))


def test_av1_is_held_against_h264_only_where_it_ran() -> None:
    results = [
        result("per-rung", [10.0], vmaf=80.0, size=1000, play=[10.0]),
        Result("ours-av1", "AV1", [9.9], [9.9], [1e6], [1e6], [1.0], rungs((90, 400), (40, 50))),
    ]
    results[0].rungs[:] = H264
    found = {aim.what: (aim.figure, aim.verdict) for aim in aims(results, 48)}
    assert found["AV1 and H.264: CPU, of one process per rung of H.264"] == ("0.990 ×", "met")
    what = "AV1: bytes at equal VMAF, of one process per rung of H.264"
    assert found[what][1] == "met"
    assert what not in {aim.what for aim in aims(results[:1], 48)}


def test_a_lost_picture_or_a_run_without_first_play_is_a_miss() -> None:
    results = [
        Result("ours-copy", "copied", failure="exit 1"),
        result("ours-encode", [7.0, 7.0], vmaf=80.0, size=1000, play=[1.0]),
        result("per-rung", [10.0, 10.0], vmaf=80.0, size=1000, play=[10.0, 10.0]),
        Result("split", "split", failure="exit 1"),
    ]
    found = {aim.what: aim.verdict for aim in aims(results, 49)}
    assert found["top copied: it runs"] == "not met"
    assert found["top encoded: time to first play"] == "not met"
    assert found["top encoded: 360p beside its counterpart"] == "not met"
    assert found["top encoded: CPU, of the hand-written command"] == "not met"


def test_there_is_no_aim_for_a_way_that_was_not_chosen() -> None:
    """`--way ours-av1 per-rung` says nothing of a top that is copied, nor of a hand-written
    command."""
    chosen = [
        Result("ours-av1", "AV1", [9.9], [9.9], [1e6], [1e6], [1.0], rungs((90, 400), (40, 50))),
        result("per-rung", [10.0], vmaf=80.0, size=1000, play=[10.0]),
    ]
    assert {aim.what.partition(":")[0] for aim in aims(chosen, 48)} == {"AV1 and H.264", "AV1"}
    assert aims(chosen[:1], 48) == []
    alone = aims([result("ours-encode", [7.0], vmaf=80.0, size=1000, play=[1.0])], 48)
    assert [aim.what for aim in alone] == ["top encoded: time to first play"]
    failed = aims([Result("ours-av1", "AV1", failure="exit 1")], 48)
    assert [(aim.what, aim.verdict) for aim in failed] == [("AV1 and H.264: it runs", "not met")]


@pytest.mark.parametrize(
    ("vmaf", "reason", "is_missed"),
    [
        (88.5, "VMAF 90.0 at CRF 23 in samples", False),
        (88.4, "VMAF 90.0 at CRF 23 in samples", True),
        (88.4, "what is hardest is held down by its ceiling of 900 kb/s", False),
        (91.6, "what is hardest is held down by its ceiling of 900 kb/s", True),
    ],
)
def test_a_ceiling_excuses_a_rung_only_below_its_aim(
    vmaf: float, reason: str, is_missed: bool
) -> None:
    assert missed(quality.Rung("360p", 23, 1, vmaf, reason), 90) == is_missed


def test_tables_show_ratios_and_failures() -> None:
    results = [
        result("ours-copy", [5.0, 6.0, 4.0], vmaf=80.0, size=1500, play=[1.0] * 3),
        result("per-rung", [10.0], vmaf=80.0, size=1000, play=[]),
        Result("shaka", "Shaka", failure="no packages"),
    ]
    costs = cost_rows(results, "per-rung")
    assert costs[1][1:] == ["5.00 (4.00–6.00)", "0.50", "5.00 (4.00–6.00)", "0.50", "2 / 1",
                            "1.00 (1.00–1.00)"]  # fmt: skip
    assert costs[2][-1] == "never"
    assert costs[3][1] == "not run: no packages"
    assert quality_rows(results)[1] == ["ours-copy", "2 · the source's", "2 · 80.00"]
    assert markdown_table([["a", "b"], ["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert text_table([["a", "bb"], ["ccc", "d"]]) == "a    bb\nccc  d"
    assert aim_rows(aims(results, 48))[-1][-1] == "**not met**"


def test_spread_of_one_value_is_the_value() -> None:
    assert spread([1.234]) == "1.23"


def test_cascade_scales_each_rung_from_the_one_above() -> None:
    assert cascade([(1920, 1080), (1280, 720), (640, 360)]) == (
        "[0:v:0]format=yuv420p,split=2[v0][c1];"
        "[c1]scale=1280:720:flags=bicubic,split=2[v1][c2];"
        "[c2]scale=640:360:flags=bicubic[v2]"
    )


def test_a_row_is_held_against_its_bound_by_its_median() -> None:
    assert Row("p50", "ms", [3, 1, 2]).verdict is None
    assert Row("p99", "ms", [50, 10, 900], at_most=50).verdict == "met"
    assert Row("p99", "ms", [51, 10, 900], at_most=50).verdict == "not met"
    assert Row("tasks a second", "", [99, 100, 400], at_least=100).verdict == "met"
    assert Row("tasks a second", "", [99, 99, 400], at_least=100).verdict == "not met"
    assert Row("p99", "ms", [float("nan")], at_most=50).verdict == "not met"


def test_a_row_shows_its_bound_and_whether_it_is_met() -> None:
    cells = Row("job beyond the engine, CPU", "%", [6, 4.5, 7], at_most=5).cells()
    assert cells == ["job beyond the engine, CPU", "6 %", "4.5 to 7", "≤ 5 %", "**not met**"]
    cells = Row("tasks a second", "", [120.0], at_least=100).cells()
    assert cells == ["tasks a second", "120", "120 to 120", "≥ 100", "met"]
    assert Row("job, wall", "s", [9.5]).cells()[3:] == ["", ""]


def cell(*rounds: tuple[int, float]) -> Cell:
    """Rounds of 100 answers, each of which took so many milliseconds, in so many seconds."""
    made = Cell()
    for milliseconds, wall_s in rounds:
        made.add([milliseconds / 1000] * 98 + [1.0, 2.0], wall_s)
    return made


def test_a_server_is_held_against_another_ones_rate_in_the_same_round() -> None:
    # The second round had a busy machine: 100/4 over 100/10, then 100/8 over 100/30, 100/5 over 25.
    ours, theirs = cell((10, 4), (20, 8), (10, 5)), cell((30, 10), (90, 30), (40, 4))
    found = Beside("cold", ours, theirs, at_least=2.4)
    assert found.times == pytest.approx([2.5, 3.75, 0.8])
    assert found.verdict == "met"
    assert found.cells() == [
        *("cold", "20", "10", "2.50 (0.80–3.75)"),
        *("10", "40", "2000", "2000", "≥ 2.4 ×", "met"),
    ]
    assert Beside("cold", ours, theirs, at_least=2.6).verdict == "not met"
    assert Beside("warm", ours, theirs).verdict is None
