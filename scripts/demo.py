"""`make demo`: one video through Telecine, and how to play what came out.

Without an argument the video is made on the spot: 12 s of a 1080p test picture with a rising tone.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import imageio_ffmpeg

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "demo"
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
<video controls autoplay muted playsinline poster="poster.jpg">
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


def main() -> int:
    DEMO.mkdir(exist_ok=True)
    if len(sys.argv) > 1:
        source = Path(sys.argv[1])
    else:
        source = DEMO / "clip.mp4"
        if not source.exists():
            print("making a 12 s 1080p clip …", flush=True)
            make_clip(source)
    folder = DEMO / (source.stem or "video")
    argv = [str(TELECINE), "transcode", str(source), "-o", str(folder)]
    argv += ["--output", "hls", "--output", "mp4:720p", "--output", "poster"]
    print(f"$ {shlex.join(argv)}", flush=True)
    began = time.monotonic()
    code = subprocess.run(argv, check=False).returncode
    if code != 0:
        return code
    seconds = time.monotonic() - began
    report = json.loads((folder / "report.json").read_text())
    progressive = next((p.name for p in sorted(folder.glob("*.mp4"))), "")
    (folder / "index.html").write_text(PAGE.replace("PROGRESSIVE", progressive))
    shown = folder.relative_to(ROOT)
    print(f"\n{shown} holds, after {seconds:.1f} s:")
    print("\n".join(describe(folder)))
    first_play = report.get("time_to_first_play_s")
    if first_play is not None:
        print(f"master.m3u8 was playable {first_play:.2f} s after the start.")
    print(
        f"\nTo play it:  python3 -m http.server {PORT} --bind 127.0.0.1 --directory {shown}"
        f"\n             then open http://127.0.0.1:{PORT}/ (or give {shown}/master.m3u8 to"
        " mpv, VLC or ffplay)"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
