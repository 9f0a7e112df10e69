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
    from stream.camera import LiveSource, Wanted
    from stream.edges import Edges
    from stream.live import Live, Wishes

    settings = request.settings
    new_tracker(settings)
    wanted = Wanted(request.size, request.rate, request.coding, request.loop)
    look = settings.look
    edges = Edges(settings.live.expand_pixels, settings.live.feather_pixels)
    _check_extras(request)
    with ExitStack() as held:
        loaded = ready_engine(settings, console, load_engine)
        held.callback(loaded.close)
        engine = GuardedEngine(loaded, tell=console.warning, note=console.note)
        sinks = _sinks(request)
        source = LiveSource(request.source, wanted)
        live = Live(
            source, engine, lambda: new_tracker(settings),
            wishes=Wishes(look.background, dict(look.people), edges), sinks=sinks,
            log=console.note,
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
        return _outcome(stop, live, console)


def _check_extras(request: LiveRequest) -> None:
    if not request.serve:
        return
    from importlib.util import find_spec

    missing = [n for n in ("starlette", "uvicorn", "websockets") if find_spec(n) is None]
    if missing:
        raise ConfigError(f"--serve needs {', '.join(missing)}: pip install '.[web]'")


def _sinks(request: LiveRequest) -> list[Sink]:
    from stream.sinks import StreamSink, VirtualCamera, Window

    made: list[Sink] = []
    for name in request.sinks:
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
    import socket

    from stream.camera import LiveSource
    from web.hub import Hub
    from web.server import Desk, Page, application
    from web.uploads import Library

    about = request.settings.live
    library = Library(about.upload_megabytes)
    held.callback(library.close)
    hub = Hub(about.preview_rows, about.preview_quality)
    live.sinks.append(hub)
    reopen = None if source.kind == "browser" else lambda: LiveSource(request.source, wanted)
    desk = Desk(live, hub, library, request.recordings, reopen)
    names = set(request.allowed_hosts)
    if not request.loopback:
        names |= {socket.gethostname(), socket.getfqdn(), request.host}
    app = application(
        desk, token=request.token, names=tuple(names), tls=request.certificate is not None
    )
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
