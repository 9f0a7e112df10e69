"""Many live sources on this machine's engine: `python -m bench.many [--sources 8] [--seconds 20]`.

Test pictures as sources, at a rate that together is more than the engine can do.  Told is how
fairly they share (the largest frame rate over the smallest; the aim is 1.2 at most), and then the
same with one of them gone silent: what the others get must not be less.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

from bench.machine import printed
from configs.schema import Settings
from engines import load_engine
from engines.guard import GuardedEngine
from run_stream import WEIGHTS, new_tracker
from stream.camera import LiveSource, Wanted
from stream.live import Live, Wishes
from stream.many import Many, Seat

SETTLE_SECONDS = 5.0  # the first pictures of a size are slow, and sources take time to connect


def measured(many: Many, names: Sequence[str], seconds: float) -> dict[str, float]:
    """Frames per second of each."""
    time.sleep(SETTLE_SECONDS)
    before, begun = {name: many.lives[name].shown for name in names}, time.monotonic()
    time.sleep(seconds)
    span = time.monotonic() - begun
    return {name: (many.lives[name].shown - before[name]) / span for name in names}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sources", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument(
        "--rate", type=float, default=5.0, help="pictures per second of each source"
    )
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--threads", type=int, default=None)
    said = parser.parse_args()
    width, height = (int(part) for part in said.size.split("x"))
    settings = Settings()
    loaded = load_engine(settings.engine.backends, WEIGHTS, threads=said.threads,
                         score_threshold=settings.engine.score_threshold,
                         in_flight=settings.engine.in_flight, log=print)  # fmt: skip
    engine = GuardedEngine(loaded, tell=print, note=print)
    wanted = Wanted(size=(height, width), rate=said.rate)

    def new_live(name: str, uri: str, seat: Seat) -> Live:
        source = LiveSource(uri, wanted)
        return Live(source, seat, lambda: new_tracker(settings), wishes=Wishes("keep"),
                    calm=settings.people.calm, take=seat.take)  # fmt: skip

    names = [f"camera{number}" for number in range(said.sources)]
    with Many(engine, new_live) as many:
        for name in names:
            many.add(name, "test")
        together = measured(many, names, said.seconds)
        silent = many.lives[names[0]].source
        silent._arrived = lambda picture: None  # type: ignore[method-assign]
        without = measured(many, names[1:], said.seconds)
        passed = sum(one["passed_over"] for one in many.status())
    loaded.close()
    ratio = max(together.values()) / max(min(together.values()), 1e-9)
    kept = sum(without.values()) / max(sum(together[name] for name in names[1:]), 1e-9)
    print(printed())
    print(json.dumps({
        "engine": loaded.name, "sources": said.sources, "size": said.size, "offered": said.rate,
        "frames_per_second": {name: round(rate, 2) for name, rate in together.items()},
        "largest_over_smallest": round(ratio, 3),
        "others_with_one_silent": round(kept, 3),
        "largest_over_smallest_then": round(
            max(without.values()) / max(min(without.values()), 1e-9), 3
        ),
        "passed_over": passed,
    }, indent=1))  # fmt: skip
    return 0 if ratio <= 1.2 else 1


if __name__ == "__main__":
    raise SystemExit(main())
