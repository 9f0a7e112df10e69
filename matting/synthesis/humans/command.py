"""The command that renders a data set of people.  What is there already is not made again."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

EPILOG = """
The folder gets
  people/full_000001.webp   a whole person: RGBA, straight alpha, colour carried on beyond the edge
  people/half_000002.webp   a person who goes on below the picture's lower edge
  sequences/000003/         one to three people in motion: rgb_000.webp, alpha_000.png (a channel
                            a person), scene.json (ids, boxes, who is hidden how far)
One seed gives the same people on every machine.  A run that was stopped goes on where it was.
"""

FIRST_SEQUENCE = 1_000_000  # added to a sequence's number: its people are not those of the stills
SIZE, UPRIGHT_EVERY = (288, 512), 5  # (H, W) of a sequence; every fifth stands upright
_HERE: dict = {}  # what a worker process keeps: the library and the poser


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m matting.synthesis", description="Make training data.",
    )  # fmt: skip
    commands = p.add_subparsers(dest="command", required=True, metavar="command")
    h = commands.add_parser(
        "humans", help="render people from the CC0 MakeHuman assets", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    h.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to write")
    h.add_argument(
        "--assets", type=Path, default=Path("../shared/data/humans3d"), metavar="FOLDER",
        help="humans3d.tar.xz, unpacked (default: %(default)s)",
    )  # fmt: skip
    h.add_argument("--stills", type=int, default=0, metavar="N", help="people to render")
    h.add_argument("--sequences", type=int, default=0, metavar="N", help="sequences to render")
    h.add_argument("--seconds", type=float, default=2.0, metavar="T",
                   help="of a sequence (default: %(default)s)")  # fmt: skip
    h.add_argument("--rate", type=float, default=12.5, metavar="FPS",
                   help="pictures a second of a sequence (default: %(default)s)")  # fmt: skip
    h.add_argument("--seed", type=int, default=1, metavar="S", help="default: %(default)s")
    h.add_argument("--tall", type=int, default=640, metavar="PIXELS",
                   help="height of a still (default: %(default)s)")  # fmt: skip
    h.add_argument("--workers", type=int, default=1, metavar="N",
                   help="processes, one core each (default: %(default)s)")  # fmt: skip
    h.add_argument("--backgrounds", type=Path, default=None, metavar="FOLDER",
                   help="pictures whose light falls on half of the people")  # fmt: skip
    return p


def main(words: Sequence[str]) -> int:
    """Run the command line `words`; the exit code: 0 done, 2 usage, 3 assets, 130 stopped."""
    options = parser().parse_args(words)
    from matting.synthesis.humans.assets import Library
    from matting.synthesis.sources import DataError

    try:
        Library(options.assets)
        jobs = list(_missing(options))
        if not jobs:
            print(f"{options.out}: everything asked for is there", file=sys.stderr)
            return 0
        _render(jobs, options)
    except DataError as error:
        print(error, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("\nstopped; run the same command to go on", file=sys.stderr)
        return 130
    return 0


def _missing(options: argparse.Namespace) -> Iterator[tuple[str, int]]:
    people = options.out / "people"
    people.mkdir(parents=True, exist_ok=True)
    there = {p.stem.split("_")[1] for p in people.glob("*_*.webp")}
    folder = options.out / "sequences"
    folder.mkdir(parents=True, exist_ok=True)
    yield from (("sequence", i) for i in range(options.sequences)
                if not (folder / f"{i:06d}" / "scene.json").exists())  # fmt: skip
    yield from (("still", i) for i in range(options.stills) if f"{i:06d}" not in there)


def _render(jobs: list[tuple[str, int]], options: argparse.Namespace) -> None:
    bar = _Bar(len(jobs))
    if options.workers <= 1:
        _start(options)
        for job in jobs:
            _work(job)
            bar.step()
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(options.workers, context, _start, (options,)) as pool:
        waiting, rest = set(), iter(jobs)
        try:
            for job in rest:
                waiting.add(pool.submit(_work, job))
                if len(waiting) >= 2 * options.workers:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
                        bar.step()
            for future in waiting:
                future.result()
                bar.step()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _start(options: argparse.Namespace) -> None:
    import cv2

    from matting.synthesis.humans.assets import Library
    from matting.synthesis.humans.pose import Poser

    cv2.setNumThreads(1)
    library = Library(options.assets)
    places = sorted(options.backgrounds.glob("*.webp")) if options.backgrounds else None
    _HERE.update(options=options, library=library, poser=Poser(library), places=places)


def _work(job: tuple[str, int]) -> None:
    from matting.synthesis.humans import sequences, stills

    kind, index = job
    options = _HERE["options"]
    if kind == "sequence":
        seed = [options.seed, FIRST_SEQUENCE + index]
        size = SIZE[::-1] if index % UPRIGHT_EVERY == UPRIGHT_EVERY - 1 else SIZE
        scene = sequences.random_scene(
            _HERE["library"], _HERE["poser"], seed, size, options.seconds, _HERE["places"]
        )
        folder = options.out / "sequences" / f"{index:06d}"
        sequences.write(scene, _HERE["poser"], folder, seed, options.seconds, options.rate)
        return
    still = stills.random_still(
        _HERE["library"], _HERE["poser"], [options.seed, index], options.tall, _HERE["places"]
    )
    name = f"{'half' if still.cut else 'full'}_{index:06d}.webp"
    stills.write(still, options.out / "people" / name)


class _Bar:
    """Progress on stderr, at most four times a second; a line a minute where it is no terminal."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.began = total, 0, time.monotonic()
        self.shown = -1e9
        self.lively = sys.stderr.isatty()

    def step(self) -> None:
        self.done += 1
        now = time.monotonic()
        last = self.done == self.total
        if now - self.shown < (0.25 if self.lively else 60) and not last:
            return
        self.shown = now
        left = (now - self.began) / self.done * (self.total - self.done)
        room = max(10, min(40, (os.get_terminal_size(2).columns if self.lively else 80) - 40))
        full = int(room * self.done / self.total)
        line = f"[{'#' * full}{'.' * (room - full)}] {self.done}/{self.total}  {_span(left)} left"
        end = "\r" if self.lively and not last else "\n"
        print(line, end=end, file=sys.stderr, flush=True)


def _span(seconds: float) -> str:
    minutes = int(seconds) // 60
    return f"{minutes // 60}:{minutes % 60:02d}:{int(seconds) % 60:02d}"
