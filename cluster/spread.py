"""Videos handed to workers as the settings say, all of them at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cluster.gathered import GatheredEngine
from cluster.work import Job, cut, matte_part
from cluster.workers import LocalWorkers, RayWorkers, Work, Workers
from configs.schema import ConfigError, Settings
from engines import available
from engines.base import EngineError


def begin(settings: Settings, work: Work = matte_part) -> Workers:
    """The workers of the settings.  Raises WorkersError where there are none."""
    wanted = settings.cluster
    if settings.input.start or settings.input.end:
        raise ConfigError("--start and --end are for one process: leave out --workers, --cluster")
    if any("@" not in whom for whom in settings.people.enroll.values()):
        raise ConfigError(
            "--enroll with a picture needs the network here: leave out --workers and --cluster, "
            "or enroll in a run of its own and give its roster"
        )
    count = wanted.workers or os.cpu_count() or 1
    if wanted.address is not None:
        if wanted.address != "local" and not wanted.address.startswith("ray://"):
            raise ConfigError(
                f"cluster.address should be `local` or ray://host:port, got {wanted.address!r}"
            )
        return RayWorkers(wanted.address, count, work)
    return LocalWorkers(count, work)


def spread(
    uri: str, out: Path, settings: Settings, weights: Path, workers: Workers,
    note: Callable[[str], None],
) -> GatheredEngine | None:  # fmt: skip
    """Begin the work on one input.  None where there is nothing to cut: pictures.

    Raises InputError where the input cannot be read.
    """
    from stream.decode import index_of, open_source

    with open_source(uri, video_stream=settings.input.video_stream) as source:
        if source.kind == "images":
            note(f"{uri}: pictures are matted by one process")
            return None
        rate = float(source.rate or 25)
        frames = source.frames_estimate or round((source.duration_seconds or 0) * rate)
        index = index_of(uri, source.video_stream)
    if index:  # it counts, where a header claims
        frames = len(index.pts)
    wanted = settings.cluster
    parts = cut(frames, rate, wanted.part_seconds, wanted.overlap_seconds)
    name = _usable(settings.engine.backends, weights, note)
    threads = settings.engine.threads
    if threads is None:
        count = wanted.workers or os.cpu_count() or 1
        threads = max(1, (os.cpu_count() or 1) // count)
    told = (
        ("names", (name,)), ("threads", threads),
        ("score_threshold", settings.engine.score_threshold),
        ("pixels", settings.engine.pixels),
        ("precision", settings.engine.precision), ("plans", settings.engine.plans),
    )  # fmt: skip
    jobs = [
        Job(
            str(Path(uri).resolve()),
            warm,
            first,
            last,
            str(weights.resolve()),
            told,
            settings.input.video_stream,
            index.before(warm) if index else None,
            (index.pts[first], index.pts[-1 if last is None else last]) if index else None,
        )
        for warm, first, last in parts
    ]
    return GatheredEngine(name, jobs, workers, out)


def _usable(backends: tuple[str, ...], weights: Path, note: Callable[[str], None]) -> str:
    """One backend for all workers: a video should not change hands with the parts."""
    found = {engine.name: engine for engine in available(weights)}
    reasons: list[str] = []
    for name in backends:
        if name in found and found[name].ok:
            if reasons:
                note(f"running on {name}, because {'; '.join(reasons)}")
            return name
        reason = found[name].reason if name in found else "there is no such engine"
        reasons.append(f"{name}: {reason}")
    raise EngineError(f"no engine can run here: {'; '.join(reasons) or 'none was named'}")
