"""`--quality` and `--measure vmaf`: what comes out is measured by a graph of this file's own."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.media.running import telecine

TARGET = 90.0


def clip(path: Path, ffmpeg: str, graph: str) -> Path:
    command = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", graph, "-c:v", "libx264"]
    command += ["-preset", "ultrafast", "-crf", "8", "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(command, check=True)
    return path


def run(source: Path, out: Path, *words: str) -> dict[str, Any]:
    done = telecine("transcode", source, "-o", out, "--output", "hls", *words, timeout_s=240)
    assert done.code == 0, done.out + done.err
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def vmaf(ffmpeg: str, out: Path, name: str, source: Path, size: tuple[int, int]) -> float:
    """Of every picture of a rung, beside the source's scaled to its size, paired by number."""
    home = out / "video" / name
    whole = out.parent / f"{name}.mp4"
    whole.write_bytes(
        b"".join(p.read_bytes() for p in (home / "init.mp4", *sorted(home.glob("0*.m4s"))))
    )
    said = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    graph = (
        f"[0:v]{said},settb=1/1000,setpts=N[a];"
        f"[1:v]scale={size[0]}:{size[1]}:flags=bicubic,{said},settb=1/1000,setpts=N[b];"
        "[a][b]libvmaf"
    )
    command = [ffmpeg, "-i", str(whole), "-i", str(source), "-lavfi", graph, "-f", "null", "-"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    found = re.search(r"VMAF score: ([\d.]+)", told)
    assert found is not None
    return float(found[1])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """Eight seconds that get harder: more snow over a moving picture."""
    graph = "testsrc2=s=256x144:r=25:d=4,noise=alls=2:allf=t[a];"
    graph += "testsrc2=s=256x144:r=25:d=4,noise=alls=4:allf=t[b];[a][b]concat"
    return clip(tmp_path_factory.mktemp("quality") / "source.mp4", ffmpeg, graph)


@pytest.fixture(scope="module")
def aimed(source: Path) -> tuple[Path, dict[str, Any]]:
    out = source.parent / "aimed"
    words = ("--quality", "90", "--measure", "vmaf", "--codec", "h264,av1", "--top", "encode")
    return out, run(source, out, *words)


def test_every_listed_rung_is_as_good_as_was_asked_for(
    source: Path, aimed: tuple[Path, dict[str, Any]], ffmpeg: str
) -> None:
    out, report = aimed
    rungs = [rung for rung in report["rungs"] if rung["codec"]]
    assert [rung["name"] for rung in rungs] == ["144p", "av1-144p"]
    for rung in rungs:
        found = vmaf(ffmpeg, out, rung["name"], source, (rung["width"], rung["height"]))
        assert found == pytest.approx(TARGET, abs=1.5), rung
        # Eight seconds are looked at whole, so that the report says what all pictures say.
        assert rung["quality"]["measured_vmaf"] == pytest.approx(found, abs=0.7)
        assert rung["quality"]["searched_vmaf"] == pytest.approx(TARGET, abs=1)


def test_the_report_has_target_samples_level_and_cost(
    aimed: tuple[Path, dict[str, Any]],
) -> None:
    out, report = aimed
    quality = report["quality"]
    assert quality["target_vmaf"] == TARGET
    assert [(s["start_s"], s["end_s"]) for s in quality["samples"]] == [
        (0, 2), (2, 4), (4, 6), (6, 8)
    ]  # fmt: skip
    assert quality["cpu_s"] > 0
    assert report["cpu_s"] > quality["cpu_s"]
    plan = json.loads((out / ".telecine" / "plan.json").read_text())
    levels = {r["name"]: r["crf"] for r in plan["renditions"]}
    for rung in report["rungs"]:
        if rung["codec"]:
            assert rung["quality"]["crf"] == levels[rung["name"]]
            assert 1 <= rung["quality"]["tries"] <= quality["max_tries"]
            assert f"at CRF {levels[rung['name']]:g} in samples" in rung["reason"]


def test_the_same_command_again_searches_for_nothing(
    source: Path, aimed: tuple[Path, dict[str, Any]]
) -> None:
    out, report = aimed
    words = ("--quality", "90", "--measure", "vmaf", "--codec", "h264,av1", "--top", "encode")
    done = telecine("transcode", source, "-o", out, "--output", "hls", *words, "--json")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert {event["state"] for event in events if event["event"] == "step"} == {"reused"}
    assert not [event for event in events if event.get("id") == "search"]
    assert json.loads((out / "report.json").read_text()) == report


def test_a_rung_that_shows_nothing_more_is_left_out_before_any_is_listed(
    tmp_path: Path, ffmpeg: str
) -> None:
    """A film that is out of focus: 360 lines show what 240 show."""
    graph = "testsrc2=s=480x360:r=25:d=2,gblur=8"
    soft = clip(tmp_path / "soft.mp4", ffmpeg, graph)
    report = run(soft, tmp_path / "out", "--quality", "90", "--top", "encode")
    assert [rung["name"] for rung in report["rungs"] if rung["codec"]] == ["240p"]
    reasons = {rung["name"]: rung["reason"] for rung in report["dropped"]}
    assert reasons["360p"].startswith("adds nothing visible to 240p, enlarged: VMAF ")
    assert "360p" not in (tmp_path / "out" / "master.m3u8").read_text()
    assert not (tmp_path / "out" / "video" / "360p").exists()


def test_measuring_alone_searches_for_nothing_and_passes_over_a_copy(
    tmp_path: Path, ffmpeg: str
) -> None:
    keys = ["-x264-params", "keyint=50:scenecut=0:open-gop=0", "-profile:v", "high"]
    source = tmp_path / "source.mp4"
    graph = "testsrc2=s=480x360:r=25:d=6"
    command = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", graph, "-c:v", "libx264"]
    command += ["-preset", "superfast", "-crf", "30", "-pix_fmt", "yuv420p", *keys, str(source)]
    subprocess.run(command, check=True)
    out = tmp_path / "out"
    report = run(source, out, "--measure", "vmaf")
    copied, low = (rung for rung in report["rungs"] if rung["codec"])
    assert (copied["mode"], copied["quality"]) == ("copy", None)
    assert low["quality"]["target_vmaf"] is None
    assert low["quality"]["crf"] == 23
    found = vmaf(ffmpeg, out, low["name"], source, (low["width"], low["height"]))
    assert low["quality"]["measured_vmaf"] == pytest.approx(found, abs=0.7)
    assert report["quality"]["cpu_s"] is None


def test_a_source_that_seeks_badly_is_searched_too(tmp_path: Path, ffmpeg: str) -> None:
    graph = "testsrc2=s=256x144:r=25:d=6,noise=alls=8:allf=t"
    source = clip(tmp_path / "corrupt.ts", ffmpeg, graph)
    report = run(source, tmp_path / "out", "--quality", "85", "--measure", "vmaf")
    (rung,) = (rung for rung in report["rungs"] if rung["codec"])
    assert rung["quality"]["measured_vmaf"] == pytest.approx(85, abs=1.5)
    assert report["warnings"] == []  # its name is no complaint of a decoder


def test_pictures_are_judged_beside_what_they_were_made_of(tmp_path: Path, ffmpeg: str) -> None:
    """Fields, pixels that are no squares, a clip between two key pictures, a watermark and burnt-in
    text: beside pictures that lack one of these, or have it elsewhere or a moment later, no usual
    level comes near 90."""
    interlaced = ["-c:v", "mpeg2video", "-q:v", "2", "-flags", "+ilme+ildct", "-pix_fmt", "yuv420p"]
    graph = "testsrc2=s=528x432:r=50:d=4,noise=alls=6:allf=t,setsar=12/11,"
    graph += "tinterlace=interleave_top,fieldorder=tff"
    command = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", graph, *interlaced]
    source, logo, text = (tmp_path / name for name in ("source.ts", "logo.png", "text.srt"))
    subprocess.run([*command, str(source)], check=True)
    mark = ["-f", "lavfi", "-i", "testsrc2=s=256x128", "-frames:v", "1", str(logo)]
    subprocess.run([ffmpeg, "-v", "error", *mark], check=True)
    text.write_text("1\n00:00:01,000 --> 00:00:04,000\nA text over much of the picture\n")
    words = ["--clip", "00:01.3-00:03.5", "--watermark", f"{logo}:bottom-right,1,0.35"]
    words += ["--subtitle", f"en={text}", "--burn-subtitle", "en"]
    report = run(source, tmp_path / "out", "--quality", "90", "--measure", "vmaf", *words)
    rungs = [rung for rung in report["rungs"] if rung["codec"]]
    assert [(rung["width"], rung["height"]) for rung in rungs] == [(576, 432), (320, 240)]
    for rung in rungs:
        assert 20 <= rung["quality"]["crf"] <= 30
        assert rung["quality"]["searched_vmaf"] == pytest.approx(90, abs=1)
        assert rung["quality"]["measured_vmaf"] == pytest.approx(90, abs=1.5)


def test_damage_is_told_once(tmp_path: Path, ffmpeg: str) -> None:
    """By what is made of it, and not again by what judges that."""
    source = clip(tmp_path / "film.mp4", ffmpeg, "testsrc2=s=320x180:r=25:d=4,noise=alls=6:allf=t")
    data = bytearray(source.read_bytes())
    for place in range(20_000, len(data) - 20_000, 40_000):
        data[place : place + 200] = bytes(200)
    source.write_bytes(data)
    report = run(source, tmp_path / "out", "--measure", "vmaf", "--top", "encode")
    (told,) = (warning for warning in report["warnings"] if "damaged" in warning)
    assert told.startswith("picture from 0.0 s to 4.0 s: damaged, the decoder complained ")


def test_pictures_too_small_to_be_judged_are_made_all_the_same(tmp_path: Path, ffmpeg: str) -> None:
    """libvmaf dies of them; the smallest that it takes are searched."""
    small = clip(tmp_path / "small.mp4", ffmpeg, "testsrc2=s=64x16:r=25:d=1")
    report = run(small, tmp_path / "small", "--quality", "90", "--top", "encode")
    assert report["warnings"] == ["64×16 pixels are below 18×18: `quality` has nothing to measure"]
    least = clip(tmp_path / "least.mp4", ffmpeg, "testsrc2=s=64x18:r=25:d=1")
    report = run(least, tmp_path / "least", "--quality", "90", "--top", "encode")
    assert report["quality"]["cpu_s"] > 0
