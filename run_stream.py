"""The program: pictures in, one alpha track per person out.

    python run_stream.py clip.mp4 -o out/

A table of contents.  Settings come from configs/, pictures from stream/decode.py, mattes from
engines/, numbers for people from tracking/, files from stream/encode.py; here they are joined.
`ahead` lets the stages overlap.  Rooms are imported where they are needed, so that `--help` answers
at once.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import asdict
from functools import cache, partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.cli import Request, parse
from configs.console import Console
from configs.schema import ConfigError, Settings
from configs.stop import Stop, polite_stop

if TYPE_CHECKING:
    import numpy as np

    from cluster.gathered import GatheredEngine
    from commands.enrol import SharedNames
    from engines.base import Engine
    from matting.frames import Frame, Mattes
    from stream.compose import Composer
    from stream.decode import Limits, Source
    from stream.encode import Deliverables
    from stream.finalize import Wishes
    from stream.resume import Begun, Notes
    from tracking import Tracker

WEIGHTS = Path(__file__).resolve().parent / "weights"  # the shipped network
OK, INTERNAL, USAGE, INPUT, DAMAGE, OUTPUT, ENGINE = range(7)  # exit codes; and 128 + signal

LoadEngine = Callable[..., "Engine"]  # called as engines.load_engine is

# Commands beside the main one: the module of each has `main(words, console) -> exit code`.
COMMANDS: dict[str, str] = {
    "doctor": "commands.doctor",
    "finalize": "commands.finalize",
    "ids": "commands.ids",
    "live": "web.command",
}


class Outcome(NamedTuple):
    """What became of one input."""

    frames: int
    people: int
    damaged: bool  # part of it could not be decoded


def main(argv: Sequence[str] | None = None, *, load_engine: LoadEngine | None = None) -> int:
    """Run the program and return its exit code.

    `load_engine` stands in for `engines.load_engine`: tests and other programs bring an engine of
    their own this way.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    console = Console(json_events="--json" in words)  # until the request is understood
    try:
        if words and words[0] in COMMANDS:
            console = Console(json_events="--json" in words, quiet="--quiet" in words)
            return import_module(COMMANDS[words[0]]).main(words[1:], console)
        request = parse(words)
        console = _console(request)
        if request.engines:
            return _list_engines(request.settings, console)
        with polite_stop() as stop:
            return _run(request, console, stop, load_engine)
    except KeyboardInterrupt:  # a second signal, or one before there was anything to finish
        return 128 + signal.SIGINT
    except Exception as error:
        return _report(error, console, debug="--debug" in words)
    finally:
        console.close()


def _console(request: Request) -> Console:
    metrics = None
    if request.metrics is not None:
        from configs.metrics import Metrics

        metrics = Metrics(request.metrics)
    return Console(
        json_events=request.json, quiet=request.quiet, log_format=request.log_format,
        metrics=metrics,
    )  # fmt: skip


def _run(request: Request, console: Console, stop: Stop, load_engine: LoadEngine | None) -> int:
    """Every input in turn.  One that fails does not keep the others from their results."""
    settings = request.settings
    new_tracker(settings)  # settings that cannot work are refused before anything is touched
    codes: list[int] = []
    with ExitStack() as held:

        @cache  # loaded for the first input that can be read, kept for the others
        def engine() -> Engine:
            loaded = ready_engine(settings, console.note, load_engine)
            held.callback(loaded.close)
            return loaded

        spread_over = _workers(request, console, held) if settings.cluster.many else {}
        for uri, out in request.places:
            gathered = spread_over.get(uri)
            ready = partial(spread_over.__getitem__, uri) if gathered else engine
            try:
                outcome = matte_one(uri, out, settings, ready, console, stop)
                codes.append(DAMAGE if outcome.damaged else OK)
                if gathered and not stop.signal:
                    gathered.finish()
            except Exception as error:
                codes.append(_report(error, console, request.debug))
            if stop.signal:
                return 128 + stop.signal
    if OK in codes or DAMAGE in codes:
        return OK if set(codes) == {OK} else DAMAGE
    return max(codes)  # nothing came out: the gravest reason


def _workers(request: Request, console: Console, held: ExitStack) -> dict[str, GatheredEngine]:
    """Every video on its way to the workers, so that they always have something to do.

    An input that cannot be read is left to its turn, which says why.
    """
    from cluster.spread import begin, spread
    from stream.decode import InputError

    settings = request.settings
    weights = weights_of(settings)
    workers = begin(settings)
    held.callback(workers.close)
    begun = {}
    for uri, out in request.places:
        with suppress(InputError):
            if engine := spread(uri, out, settings, weights, workers, console.note):
                begun[uri] = engine
    return begun


def matte_one(
    uri: str,
    out: Path,
    settings: Settings,
    engine: Callable[[], Engine],
    console: Console,
    stop: Stop | None = None,
) -> Outcome:
    """One input from decode to files: the pipeline."""
    from engines.guard import GuardedEngine
    from stream.compose import Composer, Look
    from stream.encode import Deliverables, run_head
    from stream.overlap import ahead
    from stream.resume import finished
    from stream.stages import compose, uncomposed

    stop = stop or Stop()
    look = Look.of(settings.look.background, settings.look.people)
    depth = settings.pipeline
    wishes = wishes_of(settings)
    wanted = settings.output
    with (
        open_part(uri, settings) as source,
        Composer(look, source.size) if wanted.composite else nullcontext() as composer,
    ):
        loaded = engine()  # after these: a missing file should not wait for a network to load
        tracker, names = named_tracker(uri, settings, loaded)
        network = GuardedEngine(loaded, tell=source.damage.append, note=console.warning)
        about = {
            "engine": network.name,
            "weights": _digest(settings),
            "weights_terms": _terms(settings),
            "settings": asdict(settings),
        }
        begun = None
        if wanted.resume and source.kind == "video":
            head = run_head(source, about, out)
            if done := finished(out, head):
                console.note(f"{out} is finished already")
                for path in _delivered(out, wishes, uri, console) if wishes else ():
                    console.note(f"  {path}")
                if not wishes and wanted.composite and done.get("composite") is None:
                    console.note(
                        f"its composite: python run_stream.py finalize {out} --preset comp"
                    )
                return Outcome(done["frames"], len(done["people"]), bool(done["damage"]))
            begun = _begun(out, head, console)
        notes = _notes(begun, settings, tracker) if source.kind == "video" else None
        console.start(uri, str(out), source.size, network.name, source.frames_estimate)
        with Deliverables(
            out, source, overwrite=wanted.overwrite, about=about, begun=begun,
            encoder=wanted.encoder, composite=wanted.composite,
        ) as files:  # fmt: skip
            pictures_in, last = _until(stop, source), None
            if begun and begun.state:
                last = _catch_up(begun, pictures_in, composer, files, console)
                if stop.signal:  # its composite is still behind its mattes: no results yet
                    files.leave()
                    console.warning(f"stopped by {stop.name}; the unfinished run is as it was")
                    return Outcome(begun.frames, 0, False)
            with (
                ahead(pictures_in, depth=depth.decode_ahead, name="decode") as frames,
                ahead(
                    matted(
                        frames, network, source, settings, begun, notes, tracker, files.working,
                        last,
                    ),
                    depth=depth.matte_ahead, name="matte",
                ) as people,
                ahead(
                    compose(people, composer), depth=depth.compose_ahead, name="compose"
                ) if composer else nullcontext(uncomposed(people)) as pictures,
            ):  # fmt: skip
                _write(pictures, files, console, notes)
            stopped = stop.signal is not None
            report = files.finish(complete=not stopped)
        names(out, report.people, console.warning)
        for note in [*source.notes, *report.notes]:
            console.note(f"note: {note}")
        for damage in source.damage:
            console.warning(damage)
        if stopped:
            console.warning(f"stopped by {stop.name}; what was done until then is finished")
        paths = [str(path) for path in report.paths]
        if wishes and source.kind == "video" and report.frames:
            paths += _delivered(out, wishes, uri, console)
        outcome = Outcome(report.frames, len(report.people), bool(source.damage))
        console.done(outcome.frames, outcome.people, paths, damaged=outcome.damaged or stopped)
    return outcome


def _delivered(out: Path, wishes: Wishes, uri: str, console: Console) -> list[str]:
    """The files of the deliverables beside the usual results, once they are made."""
    from stream.finalize import deliver

    made = deliver(out, wishes, source=uri)
    for note in made.notes:
        console.note(f"note: {note}")
    return [str(path) for path in made.paths]


def open_part(uri: str, settings: Settings) -> Source:
    """The part of an input that is wanted.  Raises InputError."""
    from stream.decode import open_source

    part = settings.input
    return open_source(
        uri, start=part.start, end=part.end, limits=_limits(settings),
        decoder=settings.pipeline.decoder, video_stream=part.video_stream,
    )  # fmt: skip


def _limits(settings: Settings) -> Limits:
    from stream.decode import Limits

    return Limits(settings.limits.max_pixels, settings.limits.max_seconds)


def wishes_of(settings: Settings) -> Wishes | None:
    """The deliverables that are asked for beside the usual results."""
    if not settings.output.presets:
        return None
    from stream.finalize import WishError, Wishes

    try:
        return Wishes(
            presets=settings.output.presets,
            background=settings.look.background,
            treatments=settings.look.people,
            overwrite=settings.output.overwrite,
            missing_only=settings.output.resume,
        )
    except WishError as error:
        raise ConfigError(str(error)) from None


def matted(
    frames: Iterable[Frame],
    engine: Engine,
    source: Source | None,
    settings: Settings,
    begun: Begun | None = None,
    notes: Notes | None = None,
    tracker: Tracker | None = None,
    working: Path | None = None,
    last: tuple[Frame, Mattes] | None = None,
) -> Iterator[tuple[Frame, Mattes]]:
    """Everyone in every frame, under their number: followed in a video, counted in a photograph.

    `begun` is a run to go on with, after the frame `last` with its mattes, and `notes` take down
    what is needed to go on with this one.
    Frames that no `source` can give again are a video, and are looked at once.
    """
    from stream.stages import follow, matte, matte_each

    if source is not None and source.kind == "images":
        score, closer = settings.tracking.confident_score, settings.engine.look_closer
        return matte_each(frames, engine, score, closer)
    from stream.calm import Calm, calm
    from stream.fill import fill
    from stream.steady import steady

    tracker = tracker or (notes.tracker if notes else new_tracker(settings))
    wanted = settings.people
    if wanted.second_look and source is not None and working is not None:
        followed = looked_at_twice(matte(frames, engine), tracker, source, working)
    else:
        state = begun.state["state"] if begun and begun.state else None
        followed = follow(matte(frames, engine, state, notes), tracker)
    if wanted.fill_gaps:
        followed = fill(followed, wanted.fill_gaps)
    calmer = Calm(wanted.calm)
    if last is not None:
        calmer.after(*last)
    followed = calm(followed, calmer)
    return steady(followed, wanted.steady) if wanted.steady else followed


def _digest(settings: Settings) -> str | None:
    """By what the weights of a run are known again."""
    path = weights_of(settings)
    path = path / "live.safetensors" if path.is_dir() else path
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _terms(settings: Settings) -> str:
    """Where the terms of a run's weights stand."""
    return "weights/README.md" if weights_of(settings) == WEIGHTS else "as their maker says"


def _begun(out: Path, head: Mapping[str, Any], console: Console) -> Begun | None:
    """What a broken-off run has left in this folder, if it was the same run as this one."""
    from stream.encode import unfinished
    from stream.resume import ChangedError, begun

    left = unfinished(out)
    if left is None:
        return None
    try:
        found = begun(left, head)
    except ChangedError as error:
        raise ConfigError(str(error)) from None
    if found.state:
        console.note(f"going on after {found.frames} frames")
    else:
        console.note("nothing was kept of the broken-off run yet; starting over")
    return found


def _notes(begun: Begun | None, settings: Settings, tracker: Tracker) -> Notes | None:
    from stream.resume import Notes

    people = settings.people
    if people.second_look or people.fill_gaps or people.steady:
        return None  # what is still to come decides about frames that are done: start over instead
    if begun is None or begun.state is None:
        return Notes(tracker)
    try:
        tracker.restore(begun.state["tracker"])
    except ValueError as error:
        raise ConfigError(
            f"the run that was broken off here is of another version of this program ({error}); "
            "--overwrite starts it over"
        ) from None
    return Notes(tracker, begun.frames)


def _catch_up(
    begun: Begun, frames: Iterator[Frame], composer: Composer | None, files: Deliverables,
    console: Console,
) -> tuple[Frame, Mattes] | None:  # fmt: skip
    """Read past the frames that are done, and make the composites that the crash has taken.
    Returns the last of them."""
    last = None
    for index, last in enumerate(begun.again(islice(frames, begun.frames))):
        frame, mattes = last
        missing = index >= files.composed
        if composer and (missing or composer.remembers):
            picture = composer.compose(frame, mattes)
            if missing:
                files.recompose(frame, picture)
        console.progress(len(mattes))
    return last


def looked_at_twice(
    matted: Iterable[tuple[Frame, Mattes]], tracker: Tracker, source: Source, working: Path
) -> Iterator[tuple[Frame, Mattes]]:
    """Everyone under their number, once the whole video was seen; the mattes wait in a file."""
    from stream.aside import Aside
    from tracking.offline import SecondLook

    look = SecondLook(tracker)
    with Aside(working / "aside.troupe", source) as aside:
        for frame, mattes in matted:
            look.add(mattes, frame.seconds, frame.rgb)
            aside.put(frame, mattes)
        yield from aside.named(look.numbers())


def _until(stop: Stop, source: Source) -> Iterator[Frame]:
    """The frames of the source until a signal came; those under way behind it are all finished."""
    with closing(source.frames()) as frames:
        for frame in frames:
            if stop.signal:
                return
            yield frame


def _write(
    pictures: Iterable[tuple[Frame, Mattes, np.ndarray | None]],
    files: Deliverables,
    console: Console,
    notes: Notes | None = None,
) -> None:
    seen: set[int] = set()
    told = False
    for frame, mattes, picture in pictures:
        files.write(frame, mattes, picture)
        if notes and (note := notes.due(files.frames)):
            files.keep(note)
        if notes and notes.impossible and not told:
            told = True
            console.note(f"a run that dies could not be gone on with: {notes.impossible}")
        for person in sorted(set(mattes.ids.tolist()) - seen):
            seen.add(person)
            console.appeared(person, frame.seconds)
        console.progress(len(mattes))


def new_tracker(settings: Settings) -> Tracker:
    """A tracker for one video.  Raises ConfigError where its settings contradict each other."""
    from tracking import Tracker, TrackerSettings

    try:
        return Tracker(TrackerSettings(**asdict(settings.tracking)))
    except ValueError as error:
        raise ConfigError(f"tracking: {error}") from None


def named_tracker(
    uri: str, settings: Settings, engine: Engine
) -> tuple[Tracker, Callable[[Path, list[int], Callable[[str], None]], None]]:
    """A tracker who knows the people with a name, and what to do with the names in the end: they
    go into the results of a folder, and what was seen of them into the roster."""
    tracker, wanted = new_tracker(settings), settings.people
    if not wanted.enroll and wanted.roster is None:
        return tracker, lambda out, people, warn: None
    from commands.enrol import enrol, roster_of
    from stream.identities import rename

    roster = roster_of(wanted.roster, weights_of(settings))
    enrol(roster, wanted.enroll, uri, engine, limits=_limits(settings),
          video_stream=settings.input.video_stream)  # fmt: skip
    roster.brief(tracker, Path(uri).name)

    def finish(out: Path, people: list[int], warn: Callable[[str], None]) -> None:
        for pin in tracker.missed_pins:
            x, y = pin.point
            warn(f"nobody was at {x:g},{y:g} of {pin.seconds:g} s to be {pin.name}")
        if named := {number: tracker.names[number] for number in people if number in tracker.names}:
            rename(out, named)
        roster.learn(tracker.known_codes())
        if wanted.roster is not None:
            roster.save(Path(wanted.roster))

    return tracker, finish


def shared_names(settings: Settings, engine: Engine) -> SharedNames:
    """The people with a name, for the trackers of many live sources."""
    from commands.enrol import SharedNames

    wanted = settings.people
    return SharedNames(wanted.roster, weights_of(settings), wanted.enroll, engine)


def weights_of(settings: Settings) -> Path:
    """The network a run uses: the one it names, or the shipped one."""
    return Path(settings.engine.weights) if settings.engine.weights else WEIGHTS


def ready_engine(
    settings: Settings, note: Callable[[str], None], load_engine: LoadEngine | None = None, *,
    in_flight: int | None = None,
) -> Engine:  # fmt: skip
    """The engine of the settings: the first backend on the list that can run here.  `note` is told
    which, and why not those before it."""
    if load_engine is None:
        import engines

        load_engine = engines.load_engine
    wanted = settings.engine
    return load_engine(
        wanted.backends,
        weights_of(settings),
        threads=wanted.threads,
        score_threshold=wanted.score_threshold,
        pixels=wanted.pixels,
        precision=wanted.precision,
        in_flight=in_flight or wanted.in_flight,
        plans=wanted.plans,
        log=note,
    )


def _list_engines(settings: Settings, console: Console) -> int:
    from engines import available

    found = available(weights_of(settings))
    console.engines(found)
    return OK if any(usable for _, usable, _ in found) else ENGINE


def _report(error: Exception, console: Console, debug: bool) -> int:
    """Say what went wrong, and return the exit code of its kind."""
    if debug:
        traceback.print_exception(error)
    code, text = _kind(error)
    notes = "; ".join(getattr(error, "__notes__", ()))  # which stage, what else went wrong
    console.error(f"{text} ({notes})" if notes else text, code)
    return code


def _kind(error: Exception) -> tuple[int, str]:
    if isinstance(error, ConfigError):
        return USAGE, str(error)
    from cluster.chunk import ChunkError
    from cluster.workers import WorkersError
    from engines.base import EngineError, PictureError
    from stream.decode import InputError
    from stream.encode import OutputError

    if type(error).__name__ == "WishError":
        return USAGE, str(error)
    kinds = {
        InputError: INPUT, PictureError: INPUT, OutputError: OUTPUT, EngineError: ENGINE,
        WorkersError: ENGINE, ChunkError: ENGINE,
    }  # fmt: skip
    for kind, code in kinds.items():
        if isinstance(error, kind):
            return code, str(error)
    return INTERNAL, f"{type(error).__name__}: {error} (our mistake; --debug shows where)"


if __name__ == "__main__":
    # Before NumPy and OpenCV come: what they do here is small, and a thread of theirs that helps
    # with it spins afterwards, on a core that the network or another stage could have.
    for name in ("OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ.setdefault(name, "1")
    sys.exit(main())
