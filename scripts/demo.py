"""`make demo`: one video through Telecine, and how to play what came out.

Writes to `demo/` in the current folder. Without an argument the video is made on the spot: 12 s of
a 1080p test picture with a rising tone.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import imageio_ffmpeg

DEMO = Path("demo")
TELECINE = Path(sys.executable).with_name("telecine")
PORT = 8000

# The source element that a browser understands first wins: HLS in Safari and recent Chromium,
# the progressive file everywhere else. A player library would need the network.
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Telecine demo</title>
<style>
  body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: #111; }
  video { max-width: 96vw; max-height: 96vh; }
</style>
<video controls autoplay muted playsinline POSTER>
  <source src="master.m3u8" type="application/vnd.apple.mpegurl">
  <source src="PROGRESSIVE" type="video/mp4">
</video>
</html>
"""


def make_clip(path: Path) -> None:
    """A clip that Telecine can publish at once: H.264 and AAC with a keyframe every 2 s."""
    part = path.with_suffix(".part.mp4")
    argv = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y"]
    argv += ["-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=24:duration=12"]
    argv += ["-f", "lavfi", "-i", "aevalsrc=0.1*sin(2*PI*(220+40*t)*t):s=48000:d=12"]
    argv += ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p"]
    argv += ["-g", "48", "-sc_threshold", "0", "-flags", "+cgop", "-c:a", "aac", "-ac", "2"]
    subprocess.run([*argv, "-movflags", "+faststart", str(part)], check=True)
    part.replace(path)


def describe(folder: Path) -> list[str]:
    """What lies in the folder, one line a thing: name, size, how many files."""
    lines = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
        size = sum(f.stat().st_size for f in files) / 1e6
        count = f"  {len(files)} files" if path.is_dir() else ""
        lines.append(f"  {path.name + '/' * path.is_dir():<16}{size:8.2f} MB{count}")
    return lines


def outputs_for(source: Path) -> tuple[list[str], str]:
    """What to ask for, and the file for browsers without HLS. Raises SystemExit on a refusal."""
    asked = [str(TELECINE), "probe", str(source), "--json"]
    probe = subprocess.run(asked, stdout=subprocess.PIPE, check=False)
    if probe.returncode != 0:
        raise SystemExit(probe.returncode)  # its one line on standard error has said why
    if json.loads(probe.stdout)["video"]:
        return ["hls", "mp4:720p", "poster"], "720p.mp4"
    return ["hls", "aac"], "audio.m4a"


def main() -> int:
    DEMO.mkdir(exist_ok=True)
    if len(sys.argv) > 1:
        source = Path(sys.argv[1])
    else:
        source = DEMO / "clip.mp4"
        if not source.exists():
            print("making a 12 s 1080p clip …", flush=True)
            make_clip(source)
    outputs, progressive = outputs_for(source)
    folder = DEMO / (source.stem or "video")
    argv = [str(TELECINE), "transcode", str(source), "-o", str(folder), "--force"]
    for output in outputs:
        argv += ["--output", output]
    print(f"$ {shlex.join(argv)}", flush=True)
    began = time.monotonic()
    code = subprocess.run(argv, check=False).returncode
    if code != 0:
        return code
    seconds = time.monotonic() - began
    report = json.loads((folder / "report.json").read_text())
    poster = ' poster="poster.jpg"' if "poster" in outputs else ""
    page = PAGE.replace("PROGRESSIVE", progressive).replace(" POSTER", poster)
    (folder / "index.html").write_text(page)
    print(f"\n{folder} holds, after {seconds:.1f} s:")
    print("\n".join(describe(folder)))
    first_play_s = report["time_to_first_play_s"]
    if first_play_s is not None:
        print(f"master.m3u8 was playable {first_play_s:.2f} s after the start.")
    print(
        f"\nTo play it:  python3 -m http.server {PORT} --bind 127.0.0.1 --directory {folder}"
        f"\n             then open http://127.0.0.1:{PORT}/ (or give {folder}/master.m3u8 to"
        " mpv, VLC or ffplay)"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
