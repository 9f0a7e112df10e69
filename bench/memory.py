"""Memory must not grow with the length of a video: the bundled clip against ten of it in a row.

    python -m bench.memory

Each is matted by the program in a process of its own, whose peak resident memory the system reports
when it ends.  Fails (exit code 1) where ten clips take more than 10 % above one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av

from bench.machine import printed

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "demo" / "bedroom.mp4"
ALLOWED = 1.10  # peak of the long clip over the peak of the short one


def looped(clip: Path, times: int, target: Path) -> None:
    """The picture of `clip`, `times` in a row, without decoding it."""
    with av.open(str(target), "w") as out:
        written, offset = None, Fraction(0)
        for _ in range(times):
            with av.open(str(clip)) as file:
                video = file.streams.video[0]
                if written is None:
                    written = out.add_stream_from_template(video)
                tick = video.time_base
                assert tick is not None
                end = offset
                for packet in file.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue  # the empty packet that ends a stream
                    end = max(end, offset + (packet.pts + (packet.duration or 0)) * tick)
                    packet.pts += round(offset / tick)
                    packet.dts += round(offset / tick)
                    packet.stream = written
                    out.mux(packet)
                offset = end


def peak(clip: Path, out: Path, options: Sequence[str] = ()) -> tuple[float, int]:
    """Peak resident memory in MB and frames, of the program matting `clip` in its own process.

    Exits as the program did where it could not do it; it has said why.
    """
    command = [sys.executable, str(ROOT / "run_stream.py"), str(clip), "-o", str(out), "--quiet"]
    run = subprocess.Popen([*command, *options])
    _, status, usage = os.wait4(run.pid, 0)
    run.returncode = os.waitstatus_to_exitcode(status)
    if run.returncode != 0:
        sys.exit(run.returncode)
    with av.open(str(out / "composite.mp4")) as file:
        frames = sum(1 for packet in file.demux(video=0) if packet.size)
    kilobytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return kilobytes / 1024, frames


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--clip", type=Path, default=CLIP, help="an MP4 file")
    parser.add_argument("--times", type=int, default=10, help="how many clips in a row")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    said = parser.parse_args(argv)
    options = [word for text in said.set for word in ("--set", text)]

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        long = place / "long.mp4"
        looped(said.clip, said.times, long)
        short_mb, short_frames = peak(said.clip, place / "short", options)
        long_mb, long_frames = peak(long, place / "long", options)
    ratio = long_mb / short_mb
    print(printed())
    print(f"{short_frames:>6} frames  peak {short_mb:7.1f} MB")
    print(f"{long_frames:>6} frames  peak {long_mb:7.1f} MB")
    print(f"ratio {ratio:.3f}, held to {ALLOWED:.2f}: {'yes' if ratio <= ALLOWED else 'NO'}")
    return 0 if ratio <= ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
