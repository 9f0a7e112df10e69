"""The command line of `live`: where pictures come from, how they look, where they go.

Only the standard library and PyYAML are imported here, so that `live --help` answers at once.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.cli import _Parser, engine_and_look
from configs.schema import ConfigError, Settings, load

PORT = 8765
SHORTEST_TOKEN = 12  # characters
SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")  # also in stream/many.py

EXAMPLES = """\
examples:
  python run_stream.py live --serve                    the page; the first camera, or a browser's
  python run_stream.py live --source 0 --background blur --sink camera
  python run_stream.py live --source rtsp://10.0.0.7/stream --serve --record out/
  python run_stream.py live --source clip.mp4 --loop --sink rtmp://live.example.org/app/key

SOURCE   0, /dev/video0 or camera:NAME; screen; an address (rtsp, rtmp, srt, http, tcp, udp);
         a file, played in real time; test; browser (a camera shared on the page)
SINK     camera or camera:/dev/video10 (a virtual camera), window, an address (rtmp, srt, rtsp,
         tcp, udp), or a file (.mkv, .ts)

With --serve, http://127.0.0.1:8765/ is the page and /obs a transparent picture for OBS.
docs/live.md has the rest.

Many sources share the engine fairly when --config (or --set live.sources.door=rtsp://…) names them:
  live: {sources: {door: "rtsp://10.0.0.7/stream", desk: 0}}
A SINK and its file then have {name} in them, and every source records into a folder of its name.
"""


@dataclass(frozen=True)
class LiveRequest:
    """What one call of `live` asks for."""

    source: str  # of one; with `sources` it is not looked at
    sources: dict[str, str]  # of many: what each is by its name
    size: tuple[int, int] | None  # (H, W) asked of the source
    rate: float | None
    coding: str | None
    loop: bool
    sinks: tuple[str, ...]
    record: Path | None  # record from the first picture on
    recordings: Path  # where recordings that are started on the page go
    serve: bool
    host: str
    port: int
    token: str | None
    allowed_hosts: tuple[str, ...]
    certificate: Path | None
    key: Path | None
    seconds: float | None
    settings: Settings
    json: bool
    quiet: bool
    debug: bool

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse(words: Sequence[str]) -> LiveRequest:
    """The request of `live`'s words.  Raises ConfigError where it does not make sense."""
    said = _parser().parse_args(list(words))
    settings = load(said.config, said.set, _with_edges(engine_and_look(said), said))
    if not (said.serve or said.sink or said.record):
        raise ConfigError(
            "live: nowhere to show it; say --serve for the page, --sink with an address, a file, "
            "camera or window, or --record with a folder"
        )
    sources = _sources(settings, said)
    source = said.source
    if source is None:
        source = "0" if os.path.exists("/dev/video0") or not said.serve else "browser"
    if source == "browser" and not said.serve:
        raise ConfigError("live: --source browser needs the page: add --serve")
    token = said.token
    if token == "auto":
        token = secrets.token_urlsafe(18)
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise ConfigError(f"--token should have {SHORTEST_TOKEN} characters or more, or be auto")
    if said.serve and not is_loopback(said.host) and not token:
        raise ConfigError(
            f"--host {said.host} lets other machines in: add --token auto, or a token of your "
            "own, which everyone must then bring"
        )
    if bool(said.certificate) != bool(said.key):
        raise ConfigError("--certificate and --key belong together")
    return LiveRequest(
        source=source, sources=sources, size=_size(said.size), rate=said.rate,
        coding=said.coding, loop=said.loop,
        sinks=tuple(said.sink), record=said.record, recordings=said.recordings, serve=said.serve,
        host=said.host, port=said.port, token=token, allowed_hosts=tuple(said.allow_host),
        certificate=said.certificate, key=said.key, seconds=said.seconds, settings=settings,
        json=said.json, quiet=said.quiet, debug=said.debug,
    )  # fmt: skip


def _sources(settings: Settings, said: argparse.Namespace) -> dict[str, str]:
    """Many sources by name; none where there is one only."""
    sources = {str(name): str(source) for name, source in settings.live.sources.items()}
    if not sources:
        return {}
    if said.source is not None:
        raise ConfigError("--source and live.sources cannot both be: name it under live.sources")
    for name, source in sources.items():
        if not SOURCE_NAME.fullmatch(name):
            raise ConfigError(
                f"live.sources: a name should be letters, digits, - and _, 40 at most, got {name!r}"
            )
        if source == "browser" and not said.serve:
            raise ConfigError(f"live.sources.{name}: browser needs the page: add --serve")
    for sink in said.sink:
        if "{name}" not in sink:
            raise ConfigError(
                f"--sink {sink}: many sources cannot share it; put {{name}} in it, "
                "such as out/{name}.mkv or rtmp://host/app/{name}"
            )
    return sources


def _with_edges(options: dict, said: argparse.Namespace) -> dict:
    live = {}
    if said.expand is not None:
        live["expand_pixels"] = said.expand
    if said.feather is not None:
        live["feather_pixels"] = said.feather
    return {**options, "live": live}


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{2,5})[xX](\d{2,5})", text)
    if not found:
        raise ConfigError(f"--size should be WIDTHxHEIGHT, such as 1280x720, got {text!r}")
    return int(found[2]), int(found[1])


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="run_stream.py live",
        description="Live: a camera in; everyone their own background; out to the page, OBS, "
        "meetings, a stream or files.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--source", metavar="SOURCE", help="where pictures come from; default: the first camera, "
        "or without one a browser's")  # fmt: skip
    add("--size", metavar="WxH", help="picture size asked of a camera; default 1280x720")
    add("--rate", type=float, metavar="N", help="pictures per second asked of a camera")
    add("--coding", metavar="NAME", help="how a camera sends pictures: mjpeg (default), yuyv422 …")
    add("--loop", action="store_true", help="play a file over and over")
    add("--sink", action="append", default=[], metavar="SINK", help="where the picture goes; may "
        "be repeated")  # fmt: skip
    add("--record", type=Path, metavar="DIR", help="record the composite and everyone's alpha "
        "track from the first picture on; the folder must be new")  # fmt: skip
    add("--recordings", type=Path, default=Path("recordings"), metavar="DIR", help="where "
        "recordings started on the page go; default recordings/")  # fmt: skip
    add("--background", metavar="BACKGROUND", help="marks, keep, blur, a colour, or a file")
    add("--person", action="append", default=[], metavar="ID=TREATMENT",
        help="keep, remove, blur, or a colour or file behind them; may be repeated")  # fmt: skip
    add("--enroll", action="append", default=[], metavar="NAME=PICTURE",
        help="someone's name, and a picture of them; may be repeated")  # fmt: skip
    add("--roster", metavar="JSON", help="file of names, read and written: who was enrolled before")
    add("--feather", type=float, metavar="PIXELS", help="soften the edges of everyone")
    add("--expand", type=float, metavar="PIXELS", help="grow everyone's matte; below 0 shrinks it")
    add("--serve", action="store_true", help="show the page")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="default 127.0.0.1: this machine "
        "only; any other needs --token")  # fmt: skip
    add("--port", type=int, default=PORT, metavar="N", help=f"default {PORT}; 0 takes a free one")
    add("--token", metavar="TOKEN", help="what everyone must bring to see the page; auto makes one")
    add("--allow-host", action="append", default=[], metavar="NAME", help="a name of this machine "
        "under which the page may be opened; may be repeated")  # fmt: skip
    add("--certificate", type=Path, metavar="PEM", help="serve https, which browsers want before "
        "they share a camera with another machine")  # fmt: skip
    add("--key", type=Path, metavar="PEM", help="the certificate's key")
    add("--seconds", type=float, metavar="N", help="stop after this time")
    add("--config", type=Path, metavar="YAML", help="settings file; configs/webcam.yaml is for "
        "calls")  # fmt: skip
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting by its path")
    add("--engine", metavar="NAME[,NAME]", help="what runs the network, in order of preference")
    add("--weights", metavar="PATH", help="trained weights to use instead of the shipped ones")
    add("--threads", metavar="N", help="CPU threads of the network; default: all cores")
    add("--json", action="store_true", help="events as one JSON object per line on stdout")
    add("--quiet", action="store_true", help="say nothing on stderr but errors")
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser
