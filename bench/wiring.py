"""The engine and the tracker of an evaluation, set up exactly as `run_stream.py` sets them up."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from configs.console import Console
from configs.schema import ConfigError, Settings, load
from engines.base import Engine, EngineError
from run_stream import ENGINE, INPUT, USAGE, ready_engine
from stream.decode import InputError

LoadEngine = Callable[..., Engine]  # the signature of engines.load_engine
MISSED = 1  # exit code: it ran, and a figure missed the bar it was held to


class TruthError(ValueError):
    """The labels to compare with are not where, or not what, they should be."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings, as run_stream reads")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one setting; repeatable"
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="another network's weights")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def settings_of(chosen: argparse.Namespace) -> Settings:
    weights = {"engine": {"weights": str(chosen.weights)}} if chosen.weights else None
    return load(chosen.config, chosen.set, weights)


def engine_of(settings: Settings, load_engine: LoadEngine | None) -> Engine:
    return ready_engine(settings, Console(json_events=False).note, load_engine, in_flight=1)


def guarded(work: Callable[[], int]) -> int:
    """Run `work`, and answer the errors of the world with one sentence and its exit code."""
    kinds: tuple[tuple[type[Exception], int], ...] = (
        (ConfigError, USAGE),
        (TruthError, INPUT),
        (InputError, INPUT),
        (EngineError, ENGINE),
    )
    try:
        return work()
    except tuple(kind for kind, _ in kinds) as error:
        print(f"error: {error}", file=sys.stderr)
        return next(code for kind, code in kinds if isinstance(error, kind))


def missed(
    bars: Sequence[tuple[str, float | None, bool]], figures: Mapping[str, float]
) -> list[str]:
    """What falls short: bars are (figure, limit or None, whether the limit is an upper one)."""
    return [
        f"{name} is {figures[name]:.4g}, held to {'at most' if upper else 'at least'} {limit:g}"
        for name, limit, upper in bars
        if limit is not None
        # written so that a figure that is not a number misses its bar
        and not (figures[name] <= limit if upper else figures[name] >= limit)
    ]
