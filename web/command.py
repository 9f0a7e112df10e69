"""`python run_stream.py live`: settings → source, engine, tracker, sinks and the page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.console import Console
from configs.live import LiveRequest, parse
from configs.schema import ConfigError
from configs.stop import Stop, polite_stop
from run_stream import DAMAGE, ENGINE, OK, LoadEngine, _report, new_tracker, ready_engine

if TYPE_CHECKING:
    from stream.camera import LiveSource
    from stream.live import Live
    from stream.many import Many
    from stream.sinks import Sink

FIGURES_SECONDS = 10.0  # how often a log line, or an event, says how it goes


def main(words: Sequence[str], console: Console, load_engine: LoadEngine | None = None) -> int:
    """Run `live` and return its exit code."""
    request = parse(words)
    console = Console(json_events=request.json, quiet=request.quiet)
    try:
        with polite_stop() as stop:
            return run(request, console, stop, load_engine)
    except ConfigError:
        raise
    except Exception as error:
        return _report(error, console, request.debug)
    finally:
        console.close()


def run(
    request: LiveRequest, console: Console, stop: Stop, load_engine: LoadEngine | None = None
) -> int:
    from engines.guard import GuardedEngine
    from run_stream import named_tracker
    from stream.camera import LiveSource, Wanted
    from stream.edges import Edges
    from stream.live import Live, Wishes

    if request.sources:
        return run_many(request, console, stop, load_engine)
    settings = request.settings
    new_tracker(settings)
    wanted = Wanted(request.size, request.rate, request.coding, request.loop)
    look = settings.look
    edges = Edges(settings.live.expand_pixels, settings.live.feather_pixels)
    _check_extras(request)
    with ExitStack() as held:
        # every picture is waited for, so none is under way beside it
        loaded = ready_engine(settings, console.note, load_engine, in_flight=1)
        held.callback(loaded.close)
        engine = GuardedEngine(loaded, tell=console.warning, note=console.note)
        sinks = _sinks(request)
        tracker, keep_names = named_tracker(request.source, settings, loaded)
        source = LiveSource(request.source, wanted)
        live = Live(
            source, engine, lambda: tracker,
            wishes=Wishes(look.background, dict(look.people), edges), sinks=sinks,
            calm=settings.people.calm, log=console.note,
        )  # fmt: skip
        if request.serve:
            page = _page(request, live, source, wanted, held)
            token = f"?token={request.token}" if request.token else ""
            console.note(f"the page: {page.url}{token}")
            console.note(f"for OBS:  {page.url}obs{token}")
        with live:
            if request.record:
                live.record(request.record)
            _until(stop, live, request, console)
        keep_names(Path(), [], console.warning)  # in the roster; recordings have them from `live`
        return _outcome(stop, live, console)


def run_many(
    request: LiveRequest, console: Console, stop: Stop, load_engine: LoadEngine | None = None
) -> int:
    """As `run`, for `live.sources`: sources that share the engine, each with what is its own."""
    from engines.guard import GuardedEngine
    from run_stream import shared_names
    from stream.camera import LiveSource, Wanted, address_of
    from stream.edges import Edges
    from stream.live import Live, Wishes
    from stream.many import Many, Seat, Turns

    settings, look = request.settings, request.settings.look
    new_tracker(settings)
    wanted = Wanted(request.size, request.rate, request.coding, request.loop)
    edges = Edges(settings.live.expand_pixels, settings.live.feather_pixels)
    _check_extras(request)
    for uri in request.sources.values():
        address_of(uri, wanted)  # what cannot mean anything is told before the engine is loaded

    def new_live(name: str, uri: str, seat: Seat) -> Live:
        return Live(
            LiveSource(uri, wanted), seat, lambda: names.brief(new_tracker(settings), name),
            wishes=Wishes(look.background, dict(look.people), edges),
            sinks=_sinks(request, name), calm=settings.people.calm,
            log=lambda text: console.note(f"{name}: {text}"), take=seat.take,
        )  # fmt: skip

    with ExitStack() as held:
        loaded = ready_engine(settings, console.note, load_engine)
        held.callback(loaded.close)
        engine = GuardedEngine(
            loaded,
            tell=lambda text: console.warning(f"{turns.at_work}: {text}"),
            note=lambda text: console.note(f"{turns.at_work}: {text}"),
        )
        names = shared_names(settings, loaded)
        turns = Turns(engine)
        many = held.enter_context(Many(engine, new_live, turns=turns))
        for name, uri in request.sources.items():
            live = many.add(name, uri)
            if request.record:
                live.record(request.record / name)
        if request.serve:
            from web.wall import Wall, wall_application

            wall = Wall(many, request.recordings, settings.live, wanted)
            held.callback(wall.close)
            hosts, tls = _names(request), request.certificate is not None
            app = wall_application(wall, token=request.token, names=hosts, tls=tls)
            page = _served(request, app, held)
            token = f"?token={request.token}" if request.token else ""
            console.note(f"the page: {page.url}{token}")
        _until_all(stop, many, request, console)
        lives = list(many.lives.values())
        many.close()
        names.finish()
        return _outcome_of_many(stop, lives, console)


def _until_all(stop: Stop, many: Many, request: LiveRequest, console: Console) -> None:
    """Wait for a signal, the time that was given, or, without the page, the end of every file."""
    end = time.monotonic() + request.seconds if request.seconds else float("inf")
    said = time.monotonic()
    while not stop.signal and time.monotonic() < end:
        lives = many.lives.values()
        if not request.serve and not any(live.running for live in lives):
            return
        if lives and all(live.error for live in lives):
            return  # an engine that fails at everything
        time.sleep(0.1)
        if time.monotonic() - said >= FIGURES_SECONDS:
            said = time.monotonic()
            status = many.status()
            parts = ", ".join(f"{one['name']} {one['frames_per_second']}" for one in status)
            console.note(f"frames/s: {parts}")
            console._event("figures", sources=status)


def _outcome_of_many(stop: Stop, lives: list[Live], console: Console) -> int:
    codes = [_outcome(stop, live, console) for live in lives]
    if codes and all(code == ENGINE for code in codes):
        return ENGINE
    if stop.signal:
        return 128 + stop.signal
    return DAMAGE if any(code != OK for code in codes) else OK


def _check_extras(request: LiveRequest) -> None:
    if not request.serve:
        return
    from importlib.util import find_spec

    missing = [n for n in ("starlette", "uvicorn", "websockets") if find_spec(n) is None]
    if missing:
        raise ConfigError(f"--serve needs {', '.join(missing)}: pip install '.[web]'")


def _sinks(request: LiveRequest, source: str = "") -> list[Sink]:
    """The sinks of a source; `{name}` in them stands for its name."""
    from stream.sinks import StreamSink, VirtualCamera, Window

    made: list[Sink] = []
    for name in request.sinks:
        name = name.replace("{name}", source) if source else name
        if name == "camera" or name.startswith("camera:"):
            made.append(VirtualCamera(name.partition(":")[2] or None))
        elif name == "window":
            made.append(Window())
        else:
            made.append(StreamSink(name, kilobits=request.settings.live.stream_kilobits))
    return made


def _page(
    request: LiveRequest, live: Live, source: LiveSource, wanted: Any, held: ExitStack
) -> Any:
    from stream.camera import LiveSource
    from web.hub import Hub
    from web.server import Desk, application
    from web.uploads import Library

    about = request.settings.live
    library = Library(about.upload_megabytes)
    held.callback(library.close)
    hub = Hub(about.preview_rows, about.preview_quality)
    live.sinks.append(hub)
    reopen = None if source.kind == "browser" else lambda: LiveSource(request.source, wanted)
    desk = Desk(live, hub, library, request.recordings, reopen)
    app = application(
        desk, token=request.token, names=_names(request), tls=request.certificate is not None
    )
    return _served(request, app, held)


def _names(request: LiveRequest) -> tuple[str, ...]:
    """What the page answers to beside this machine's addresses."""
    import socket

    names = set(request.allowed_hosts)
    if not request.loopback:
        names |= {socket.gethostname(), socket.getfqdn(), request.host}
    return tuple(names)


def _served(request: LiveRequest, app: Any, held: ExitStack) -> Any:
    from web.server import Page

    page = Page(app, request.host, request.port, certificate=request.certificate, key=request.key)
    held.callback(page.close)
    return page


def _until(stop: Stop, live: Live, request: LiveRequest, console: Console) -> None:
    """Wait for a signal, the end of a file, or the time that was given."""
    end = time.monotonic() + request.seconds if request.seconds else float("inf")
    said = time.monotonic()
    sinks: dict[str, str] = {}
    while not stop.signal and time.monotonic() < end and not live.wait(0.1):
        for sink in live.sinks:
            if sinks.get(sink.shown) != sink.state:
                sinks[sink.shown] = sink.state
                if sink.state in ("failed", "retrying"):
                    console.warning(f"{sink.shown}: {sink.state}: {sink.problem}")
        if time.monotonic() - said >= FIGURES_SECONDS:
            said = time.monotonic()
            figures = live.figures()
            console.note(
                "{frames_per_second} frames/s, {latency_ms} ms from picture to result "
                "(95 %: {latency_p95_ms} ms), {dropped} dropped".format(**figures)
            )
            console._event("figures", **figures)


def _outcome(stop: Stop, live: Live, console: Console) -> int:
    failed = [sink for sink in live.sinks if sink.state == "failed"]
    for sink in failed:
        console.warning(f"{sink.shown}: {sink.problem}")
    if live.error is not None:
        console.error(live.problem, ENGINE)
        return ENGINE
    if stop.signal:
        return 128 + stop.signal
    return DAMAGE if failed else OK


__all__ = ["Path", "main", "run"]
