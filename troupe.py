"""Troupe in Python: pictures in, people out, each with an id and an alpha of their own.

    from troupe import Troupe

    with Troupe() as troupe:
        for frame in troupe.stream("clip.mp4"):          # or 0, "rtsp://…", or arrays
            for person in frame.people:
                print(frame.seconds, person.id, person.alpha.shape)

Pictures are (H, W, 3) uint8 RGB, alphas (H, W) float32 from 0 to 1.  Files and arrays give every
frame; cameras and addresses give the newest one there is and drop what cannot be kept up with.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.schema import Settings, load
from engines.guard import GuardedEngine
from matting.frames import Frame, Instance, Mattes
from run_stream import (
    LoadEngine,
    matted,
    named_tracker,
    new_tracker,
    open_part,
    ready_engine,
    shared_names,
)
from stream.calm import Calm
from stream.camera import LiveSource, Wanted
from stream.compose import Composer, Look
from stream.live import named_now
from stream.overlap import ahead
from stream.stages import matte_each

if TYPE_CHECKING:
    from engines.base import Engine

__all__ = ["Person", "Troupe", "TroupeFrame"]

Person = Instance  # alpha (H, W) float32, score, box (4,) x0 y0 x1 y1, id
LOG = logging.getLogger("troupe")
TICKS = 90_000  # of the times that arrays are given, per second


class TroupeFrame:
    """One picture and everyone in it.  Its arrays are the caller's to keep."""

    def __init__(
        self, frame: Frame, mattes: Mattes, names: Mapping[int, str],
        compose: Callable[[], np.ndarray],
    ) -> None:  # fmt: skip
        self._frame, self.mattes, self._compose = frame, mattes, compose
        # id -> name, of the people in the picture who were enrolled
        self.names = {number: names[number] for number in mattes.ids.tolist() if number in names}

    @property
    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        return self._frame.rgb

    @property
    def seconds(self) -> float:
        return self._frame.seconds

    @property
    def pts(self) -> int:
        return self._frame.pts

    @property
    def time_base(self) -> Fraction:
        return self._frame.time_base

    @cached_property
    def people(self) -> list[Person]:
        """Everyone in the picture, by id."""
        return list(self.mattes)

    @cached_property
    def composite(self) -> np.ndarray:
        """(H, W, 3) uint8: the picture with the look that `Troupe` was given.  Made when asked for
        first; ask before going on to the next frame where the look learns from frame to frame."""
        return self._compose()

    def to_supervision(self, threshold: float = 0.5) -> Any:
        """The people as `supervision.Detections`: boxes, masks (alpha > threshold), tracker ids and
        scores, with the alphas in `data["alpha"]`.  Needs `pip install supervision`."""
        try:
            import supervision
        except ImportError:
            raise ImportError("to_supervision() needs: pip install supervision") from None
        people = self.mattes
        return supervision.Detections(
            xyxy=people.box.reshape(-1, 4),
            mask=people.alpha > threshold,
            confidence=people.score,
            class_id=np.zeros(len(people), int),
            tracker_id=people.ids.astype(int),
            data={"alpha": people.alpha, "class_name": np.full(len(people), "person")},
        )


class Troupe:
    """The network, loaded once, for any number of streams one after another.

    `settings` is a YAML file as `--config` takes it, or `configs.schema.Settings`; `overrides` are
    `key=value` as `--set` takes them.  `background` and `people` say how composites look, in the
    words of the command line.  Raises ConfigError, EngineError or InputError here where something
    cannot work, and nothing later for the same reason.
    """

    def __init__(
        self,
        settings: Settings | str | os.PathLike[str] | None = None,
        *,
        background: str | None = None,
        people: Mapping[int, str] | None = None,
        engine: str | Iterable[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
        threads: int | None = None,
        overrides: Iterable[str] = (),
        load_engine: LoadEngine | None = None,
    ) -> None:
        if not isinstance(settings, Settings):
            said: dict[str, Any] = {"engine": {}, "look": {"background": background or "keep"}}
            if settings is not None and background is None:
                said["look"] = {}
            if people:
                said["look"]["people"] = dict(people)
            if engine is not None:
                said["engine"]["backends"] = [engine] if isinstance(engine, str) else list(engine)
            if weights is not None:
                said["engine"]["weights"] = os.fspath(weights)
            if threads is not None:
                said["engine"]["threads"] = threads
            settings = load(Path(settings) if settings is not None else None, overrides, said)
        self.settings = settings
        new_tracker(settings)
        self._look = Look.of(settings.look.background, settings.look.people)
        Composer(self._look, (16, 16)).close()  # a background that cannot be read is told now
        loaded = ready_engine(settings, LOG.info, load_engine)
        self._engine: Engine = GuardedEngine(loaded, tell=LOG.warning, note=LOG.warning)

    @property
    def engine(self) -> str:
        """The name of what runs the network."""
        return self._engine.name

    def __enter__(self) -> Troupe:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._engine.close()

    def stream(
        self,
        source: str | int | os.PathLike[str] | Iterable[np.ndarray],
        *,
        rate: float = 25.0,
        size: tuple[int, int] | None = None,
        live: bool = False,
    ) -> Iterator[TroupeFrame]:
        """The frames of a source, with everyone in them under an id that stays.

        `source`: a video file, a picture or a folder of pictures; a camera (0, "/dev/video0"), an
        address, "screen" or "test"; or any iterable of (H, W, 3) uint8 RGB arrays, `rate` per
        second.  `size` (H, W) is asked of a camera.  `live` plays a file at its own speed, dropping
        what cannot be kept up with.  Leaving the loop closes the source.

        Settings count as on the command line: `input` and `people.second_look` for files, where the
        second look holds every frame back until the last was seen.
        """
        if isinstance(source, int):
            source = str(source)
        if isinstance(source, str | os.PathLike):
            uri = os.fspath(source)
            if live or not os.path.exists(uri) or uri.startswith("/dev/"):
                return self._newest(uri, size)
            return self._every(uri)
        return self._arrays(source, rate)

    def matte(self, rgb: np.ndarray) -> TroupeFrame:
        """One photograph, (H, W, 3) uint8 RGB.  People are numbered from the left."""
        frame = Frame(rgb, 0, Fraction(1))
        score, closer = self.settings.tracking.confident_score, self.settings.engine.look_closer
        (found,) = matte_each([frame], self._engine, score, closer)
        return self._framed(*found, None, {})

    # -- the three kinds of sources

    def _every(self, uri: str) -> Iterator[TroupeFrame]:
        tracker, keep_names = named_tracker(uri, self.settings, self._engine)
        with (
            open_part(uri, self.settings) as source,
            Composer(self._look, source.size) as composer,
            tempfile.TemporaryDirectory(prefix="troupe-") as working,
        ):
            depth = self.settings.pipeline.decode_ahead
            try:
                with ahead(source.frames(), depth=depth, name="decode") as frames:
                    for frame, mattes in matted(
                        frames, self._engine, source, self.settings, tracker=tracker,
                        working=Path(working),
                    ):  # fmt: skip
                        yield self._framed(frame, mattes, composer, tracker.names)
            finally:
                keep_names(Path(), [], LOG.warning)

    def _arrays(self, pictures: Iterable[np.ndarray], rate: float) -> Iterator[TroupeFrame]:
        step = round(TICKS / rate)
        frames = (
            Frame(rgb, index * step, Fraction(1, TICKS)) for index, rgb in enumerate(pictures)
        )
        names = shared_names(self.settings, self._engine)
        tracker = names.brief(new_tracker(self.settings), "")
        composer = None
        try:
            for frame, mattes in matted(
                frames, self._engine, None, self.settings, tracker=tracker
            ):
                composer = composer or Composer(self._look, frame.size)
                yield self._framed(frame, mattes, composer, tracker.names)
        finally:
            if composer:
                composer.close()
            names.finish()

    def _newest(self, uri: str, size: tuple[int, int] | None) -> Iterator[TroupeFrame]:
        names = shared_names(self.settings, self._engine)
        tracker = names.brief(new_tracker(self.settings), uri)
        state, calm = self._engine.start(), Calm(self.settings.people.calm)
        composer = None
        with LiveSource(uri, Wanted(size)) as source:
            try:
                while not source.ended:
                    shot = source.take(0.2)
                    if shot is None or shot.slate:
                        continue
                    mattes, state = self._engine.step(shot.frame.rgb, state)
                    mattes = named_now(mattes, tracker, shot.frame.seconds, shot.frame.rgb)
                    mattes = calm.of(shot.frame, mattes)
                    composer = composer or Composer(self._look, shot.frame.size)
                    yield self._framed(shot.frame, mattes, composer, tracker.names)
            finally:
                if composer:
                    composer.close()
                names.finish()

    def _framed(
        self, frame: Frame, mattes: Mattes, composer: Composer | None,
        names: Mapping[int, str],
    ) -> TroupeFrame:  # fmt: skip
        def compose() -> np.ndarray:
            if composer is not None:
                return composer.compose(frame, mattes)
            with Composer(self._look, frame.size) as own:
                return own.compose(frame, mattes)

        return TroupeFrame(frame, mattes, names, compose)
