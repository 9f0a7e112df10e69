"""Settings: YAML and `--set` in, frozen dataclasses out.

A key nobody reads is an error, never ignored; so is a value of the wrong type, and so are the
things YAML quietly turns into something else (`1e-3` into text, `no` into false, 010 into 8).
Every message names the file, the key and what mends it.

Layers, the later one wins: the defaults below, the YAML file, `--set key=value`, options of the
command line.  Nothing here opens a picture or a network: what happens to whom stays the text the
user wrote (`blur`, `remove`, `beach.jpg`), and `run_stream.py` turns it into objects.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

T = TypeVar("T")
MAX_BYTES = 1_000_000  # of a settings file


class ConfigError(ValueError):
    """The settings do not say what the program needs; the message names file and key."""


def number(default: float | int | None, low: float, high: float = float("inf")) -> Any:
    """A setting that must lie in [low, high]."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True)
class EngineSettings:
    """The network and what runs it."""

    # Tried in this order; the first that can run here is used, and the log says why not the others.
    backends: tuple[str, ...] = (
        "openvino-bf16", "openvino", "onnxruntime",
    )  # fmt: skip
    weights: str | None = None  # a file of trained weights; nothing = the ones that are shipped
    threads: int | None = number(None, 1, 1024)  # CPU threads of the network; nothing = all cores
    score_threshold: float = number(0.1, 0, 1)  # low: weak detections keep people alive
    # Pixels of the picture the network works on, whatever its shape (288 x 512).  Fewer are quicker
    # and see less: configs/latency.yaml.  Engines on a GPU have plans for this number alone.
    pixels: int = number(147_456, 16_384, 1_048_576)
    # Photographs are seen a second time, in three times the pixels: it takes four times as long.
    # Videos never are, and an engine on a GPU sees everything once.
    look_closer: bool = True
    # Pictures under way at once, where none is waited for: in files, and live from many sources.
    # On a CPU they share out its threads (docs/decisions/0003-cpu-engine.md).
    in_flight: int = number(4, 1, 16)
    # The next two are for engines on a GPU (docs/engines.md).
    precision: Literal["fp16", "fp32"] = "fp16"  # what most layers run in
    plans: str | None = None  # folder of compiled networks; nothing = the user's cache


@dataclass(frozen=True)
class TrackingSettings:
    """Who is who over time.  Overlaps, scores and weights lie in [0, 1].

    The same names and defaults as `tracking.TrackerSettings`, which a test holds equal.
    """

    confident_score: float = number(0.6, 0, 1)  # a detection from here on is believed at once
    birth_score: float = number(0.7, 0, 1)  # and from here on may be someone new
    weak_score: float = number(0.1, 0, 1)  # below this a detection is ignored
    min_overlap: float = number(0.1, 0, 1)  # box * height * score under which nobody is the same
    min_matte_overlap: float = number(0.2, 0, 1)  # the same for mattes; one of the two is enough
    min_weak_overlap: float = number(0.5, 0, 1)  # box overlap a weak detection needs
    min_birth_overlap: float = number(0.3, 0, 1)  # box overlap of a newcomer's next sightings
    duplicate_overlap: float = number(0.7, 0, 1)  # two mattes that overlap this much are one person
    matte_weight: float = number(0.3, 0, 1)  # share of mattes where motion leaves a choice
    code_weight: float = number(0.4, 0, 1)  # share of latent codes there
    confirm_hits: int = number(5, 1)  # sightings until someone is believed
    confirm_frames: int = number(8, 1)  # within how many frames; more delays the output
    coast_seconds: float = number(2.0, 0)  # how long someone missing may come back by motion
    memory_seconds: float = number(60.0, 0)  # how long by their code
    max_remembered: int = number(200, 1)  # how many people are remembered by code
    max_people: int | None = number(None, 1)  # how many people there are; nothing = any number


@dataclass(frozen=True)
class PeopleSettings:
    """Who has a name."""

    # name -> a picture of this person, or seconds@x,y: who is at this point of the input
    enroll: Mapping[str, str] = field(default_factory=dict)
    roster: str | None = None  # JSON file of those who were enrolled; read, and written at the end
    second_look: bool = False  # a file is followed forward and backward before anyone gets a number
    fill_gaps: int = number(0, 0, 5)  # holes of up to so many frames are closed, where one can see
    # share of the matte before, carried by the motion, that each keeps where the picture looks the
    # same; 0 = mattes as the network sees them.  In videos and live; waits for nothing
    calm: float = number(0.5, 0, 0.9)
    steady: int = number(0, 0, 4)  # frames before and after that mattes are compared with


@dataclass(frozen=True)
class LookSettings:
    """What happens to whom in the composite.  The alpha tracks are the same whatever is set here.

    A background is `marks` (the scene, everyone tinted and numbered), `keep` (the scene), `blur`, a
    colour (`"#00ff00"`) or a picture or video file.  A treatment is `keep`, `remove`, `blur` (the
    person), or a colour or file (the background around them).
    """

    background: str = "marks"  # behind everyone
    people: Mapping[int, str] = field(default_factory=dict)  # id -> treatment of this person


@dataclass(frozen=True)
class InputSettings:
    """The part of a video that is wanted; both ends are included.

    A moment is text: seconds (`"12.5"`), a time (`"1:02:03.5"`) or the number of a frame counted
    from 0 (`"300f"`).
    """

    start: str | None = None  # nothing = from its beginning
    end: str | None = None  # nothing = to its end
    # The number of the stream to use, in a file with several videos; nothing = the one that is
    # marked as default, or the first.
    video_stream: int | None = number(None, 0, 63)


@dataclass(frozen=True)
class OutputSettings:
    """The files that are left behind."""

    presets: tuple[str, ...] = ()  # deliverables beside the usual results, as `finalize` makes them
    overwrite: bool = False  # replace the results of an earlier run in the same folder
    resume: bool = False  # go on with a run that was broken off there
    composite: bool = True  # false: tracks and register alone; `finalize --preset comp` later
    # Who encodes the composite: "nvenc" is an NVIDIA GPU's encoder, "auto" takes it where it works.
    encoder: Literal["cpu", "auto", "nvenc"] = "cpu"


@dataclass(frozen=True)
class LimitSettings:
    """What is taken from an input before it is refused: set these for media from strangers."""

    max_pixels: int = number(1 << 28, 1)  # of one picture; a video's has 2^26 at most
    max_seconds: float | None = number(None, 0)  # of a video; nothing = any length


@dataclass(frozen=True)
class PipelineSettings:
    """How far the stages may run ahead of each other, in frames: memory against smoothness."""

    decode_ahead: int = number(4, 1, 256)
    matte_ahead: int = number(2, 1, 256)
    compose_ahead: int = number(2, 1, 256)
    # Who decodes: "nvdec" is an NVIDIA GPU's own decoder, "auto" takes it where it works.
    decoder: Literal["cpu", "auto", "nvdec"] = "cpu"


@dataclass(frozen=True)
class LiveSettings:
    """Live only: `python run_stream.py live`."""

    # Many sources at once: a name, and what `--source` would be told.
    sources: Mapping[str, str | int] = field(default_factory=dict)
    expand_pixels: float = number(0.0, -50, 50)  # of everyone's matte; below 0 it shrinks
    feather_pixels: float = number(0.0, 0, 50)  # how softly the mattes end
    preview_rows: int = number(720, 90, 2160)  # pictures are sent to the page no higher than this
    preview_quality: int = number(80, 30, 100)  # JPEG quality of these
    upload_megabytes: int = number(200, 1, 4096)  # largest picture or video the page may send
    stream_kilobits: int | None = number(None, 100, 100_000)  # of rtmp:// and the like; nothing =
    #                                                           constant quality


@dataclass(frozen=True)
class ClusterSettings:
    """Several processes, or machines, for one run: videos are matted in parts."""

    workers: int | None = number(1, 1, 10_000)  # processes; nothing = one per core
    address: str | None = None  # of a Ray cluster: `local`, or ray://host:port
    part_seconds: float = number(20.0, 0.1)  # of a part of a video
    overlap_seconds: float = number(1.0, 0)  # the network sees before a part, to remember

    @property
    def many(self) -> bool:
        """Whether this run has workers at all."""
        return self.workers != 1 or self.address is not None


@dataclass(frozen=True)
class Settings:
    """Everything a run can be told."""

    engine: EngineSettings = EngineSettings()
    tracking: TrackingSettings = TrackingSettings()
    people: PeopleSettings = PeopleSettings()
    look: LookSettings = LookSettings()
    output: OutputSettings = OutputSettings()
    pipeline: PipelineSettings = PipelineSettings()
    live: LiveSettings = LiveSettings()
    input: InputSettings = InputSettings()
    cluster: ClusterSettings = ClusterSettings()
    limits: LimitSettings = LimitSettings()


def load(
    path: Path | None = None,
    overrides: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings of a run: YAML file, `key=value` overrides and options, checked and merged.

    `options` is a nested mapping of the same shape as the YAML (what the command line's own
    options say); it wins over everything else.
    """
    layers = []
    if path is not None:
        layers.append(_checked(Settings, _read(path), path.name))
    layers += [_checked(Settings, *_override(text)) for text in overrides]
    if options:
        layers.append(_checked(Settings, options, "command line"))
    merged: dict[str, Any] = {}
    for layer in layers:
        _merge(merged, layer)
    return _build(Settings, merged)


def _read(path: Path) -> Any:
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"cannot read the settings file {path}: it is not a file")
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path.name} is larger than {MAX_BYTES // 1000} kB: not settings")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no settings file {path}; presets lie in configs/") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the settings file {path}: {error}") from None
    try:
        _refuse_surprises(yaml.compose(text, Loader=yaml.SafeLoader), path.name)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{path.name} is nested too deeply to be settings") from None
    except ValueError as error:  # a date such as 2026-99-99, a number of thousands of digits
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path.name}: a value cannot be read: {error}") from None
    return {} if values is None else values


def _override(text: str) -> tuple[dict[str, Any], str]:
    """`tracking.memory_seconds=3` -> ({"tracking": {"memory_seconds": 3}}, "--set tracking...")."""
    where = f"--set {text}"
    key, equals, written = text.partition("=")
    keys = key.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"{where}: expected KEY=VALUE, such as engine.threads=2")
    try:
        _refuse_surprises(yaml.compose(written, Loader=yaml.SafeLoader), where)
        value = yaml.safe_load(written)
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError):
        value = written.strip()  # text that YAML cannot read is meant as it stands
    if value is None and written.strip() not in ("null", "~"):
        value = written.strip()  # YAML takes an unquoted `#00ff00` for a comment; we do not
    for name in reversed(keys):
        value = {_whole(name): value}
    return value, where


def _whole(name: str) -> int | str:
    return int(name) if name.isdecimal() and len(name) < 20 else name


def _refuse_surprises(
    node: yaml.Node | None, where: str, looked_at: set[int] | None = None
) -> None:
    """What YAML would silently drop or rewrite: repeated keys, 010 read as 8, 1:30 as 90.

    Each node is looked at once: aliases of aliases of aliases are a short file with no end.
    """
    looked_at = set() if looked_at is None else looked_at
    if id(node) in looked_at:
        return
    looked_at.add(id(node))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            _refuse_surprises(key, where, looked_at)
            _refuse_surprises(value, where, looked_at)
            if isinstance(key.value, str) and key.value in seen:
                line = key.start_mark.line + 1
                raise ConfigError(f"{where}: {key.value!r} appears twice, again on line {line}")
            if isinstance(key.value, str):
                seen.add(key.value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_surprises(value, where, looked_at)
    elif isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:int":
        digits = node.value.lstrip("+-")
        if ":" in digits or (len(digits) > 1 and digits.startswith("0")):
            means = yaml.safe_load(node.value)
            raise ConfigError(
                f"{where}: line {node.start_mark.line + 1}: YAML reads {node.value} as {means}; "
                f'write the number plainly, or "{node.value}" in quotes if it is text'
            )


def _checked(kind: type, values: Any, where: str, path: str = "") -> dict[str, Any]:
    """The values of one layer under their keys, each checked against the field of its name."""
    if not isinstance(values, Mapping):
        inside = path.rstrip(".") or "the file"
        raise ConfigError(
            f"{where}: {inside} should hold keys ({_listed(kind)}), got {_said(values)}"
        )
    hints = typing.get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}
    checked = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{where}: {_unknown(key, kind, path)}")
        wanted, name = hints[key], f"{path}{key}"
        if is_dataclass(wanted):
            assert isinstance(wanted, type)
            checked[key] = _checked(wanted, {} if value is None else value, where, f"{name}.")
        else:
            checked[key] = _fitted(value, wanted, where, name)
            _in_range(checked[key], known[key], where, name)
    return checked


def _unknown(key: object, kind: type, path: str) -> str:
    if isinstance(key, bool):
        word = "yes, on or true" if key else "no, off or false"
        return f"YAML reads an unquoted {word} as {str(key).lower()}; put the key in quotes"
    names = [f.name for f in fields(kind)]
    near = get_close_matches(str(key), names, n=1)
    if near:
        return f"unknown key '{path}{key}'; did you mean {path}{near[0]}?"
    elsewhere = [p for p in setting_names() if p.rsplit(".", 1)[-1] == key]
    if elsewhere:
        return f"unknown key '{path}{key}'; did you mean {' or '.join(elsewhere)}?"
    return f"unknown key '{path}{key}'; {path.rstrip('.') or 'at the top'} has: {_listed(kind)}"


def setting_names(kind: type = Settings, path: str = "") -> list[str]:
    """Every setting by its path, such as `engine.threads`."""
    hints = typing.get_type_hints(kind)
    found = []
    for f in fields(kind):
        name = f"{path}{f.name}"
        inner = hints[f.name]
        found += setting_names(inner, f"{name}.") if is_dataclass(inner) else [name]  # type: ignore[arg-type]
    return found


def _listed(kind: type) -> str:
    return ", ".join(f.name for f in fields(kind)) or "no keys"


def _fitted(value: Any, wanted: Any, where: str, name: str) -> Any:
    """`value` as the type of its field, or a ConfigError that says what was found and expected."""
    origin, parts = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in parts:
            return None
        if type(value) in parts:
            return value
        wanted = next(part for part in parts if part is not type(None))
        return _fitted(value, wanted, where, name)
    if origin is Literal:
        if value in parts:
            return value
        near = get_close_matches(str(value), [str(part) for part in parts], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        choices = ", ".join(str(part) for part in parts)
        raise ConfigError(f"{where}: {name} should be one of {choices}, got {_said(value)}{hint}")
    if origin is tuple:
        if not isinstance(value, list | tuple) or not value:
            raise ConfigError(
                f"{where}: {name} should be a list such as [{name.rsplit('.', 1)[-1]}1, ...], "
                f"got {_said(value)}"
            )
        return tuple(_fitted(v, parts[0], where, f"{name}[{i}]") for i, v in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        return _fitted_mapping(value, parts, where, name)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is wanted:
        return value
    raise ConfigError(f"{where}: {name} should be {_called(wanted)}, got {_said(value)}"
                      f"{_mended(value, wanted)}")  # fmt: skip


def _fitted_mapping(value: Any, parts: tuple[Any, ...], where: str, name: str) -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: {name} should hold lines of `key: value`, got {_said(value)}")
    fitted = {}
    for key, item in value.items():
        if parts[0] is int and (type(key) is not int or key < 1):
            raise ConfigError(
                f"{where}: {name} is keyed by the person's number (1, 2, ...), got {_said(key)}"
            )
        fitted[key] = _fitted(item, parts[1], where, f"{name}.{key}")
    return fitted


def _called(wanted: type) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return names[wanted]


def _said(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"{str(value).lower()}"
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, Mapping):
        return "keys of its own"
    if isinstance(value, list | tuple):
        return "a list"
    return f"{value!r}"


def _mended(value: Any, wanted: type) -> str:
    """What to write instead, where YAML is what got in the way."""
    if value is None and wanted is str:
        return ' (an unquoted # begins a comment in YAML: put a colour in "quotes")'
    if isinstance(value, bool) and wanted is str:
        said = "yes, on and true" if value else "no, off and false"
        return f' (YAML reads an unquoted {said} like that: put it in "quotes")'
    if isinstance(value, str) and wanted in (int, float):
        try:
            return f" (YAML takes {value} for text: write {float(value)!r})"
        except ValueError:
            return ""
    if wanted is str and isinstance(value, int | float):
        return f' (put it in quotes: "{value}")'
    return ""


def _in_range(value: Any, about: Field[Any], where: str, name: str) -> None:
    if value is None or "low" not in about.metadata:
        return
    low, high = about.metadata["low"], about.metadata["high"]
    if not low <= value <= high:  # also false for nan
        span = f"between {low} and {high}" if high != float("inf") else f"{low} or more"
        raise ConfigError(f"{where}: {name} should be {span}, got {value!r}")


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _build(kind: type[T], values: Mapping[str, Any]) -> T:
    hints = typing.get_type_hints(kind)
    made = {}
    for about in fields(kind):  # type: ignore[arg-type]
        inner = hints[about.name]
        if is_dataclass(inner):
            assert isinstance(inner, type)
            made[about.name] = _build(inner, values.get(about.name, {}))
        elif about.name in values:
            made[about.name] = values[about.name]
        elif about.default is MISSING and about.default_factory is MISSING:
            raise ConfigError(f"{about.name} has no default and was not given")
    return kind(**made)
