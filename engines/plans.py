"""Compiled networks on disk: what each was made from, and whether it may be used here.

A plan runs only where everything it was made from is the same: weights, sizes, precision, version
of TensorRT, GPU.  All of that is its key; the file's name carries a digest of it, and a note beside
the file spells it out, so that a stale plan is told apart from a missing one, with the reason.
Plans are machine code that is loaded and run: the folder is the user's alone, and a damaged file is
refused before TensorRT sees it.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from engines.base import EngineError

ANY_RTX = "Ampere and later"  # what tensorrt-rtx builds for when no architecture is named
FORM = 1  # of a plan and its note; one more whenever what is built changes for another reason


class StalePlan(EngineError):
    """There is a plan, made from something else; the message says what, and how to make it anew."""


class Profile(NamedTuple):
    """Sizes a plan serves: smallest, best (tuned for) and largest (B, H, W) of its input."""

    low: tuple[int, int, int]
    best: tuple[int, int, int]
    high: tuple[int, int, int]

    def holds(self, batch: int, size: tuple[int, int]) -> bool:
        shape = (batch, *size)
        return all(a <= b <= c for a, b, c in zip(self.low, shape, self.high, strict=True))

    def __str__(self) -> str:
        spans = []
        for low, high in zip(self.low, self.high, strict=True):
            spans.append(str(low) if low == high else f"{low}-{high}")
        return "x".join(spans)


@dataclass(frozen=True)
class Key:
    """Everything a plan depends on."""

    backend: str  # tensorrt or tensorrt-rtx
    version: str  # of that library
    network: str  # SHA-256 of the exported file
    precision: str  # fp16 or fp32
    profiles: tuple[str, ...]
    gpu: str  # its name and architecture; for tensorrt-rtx the architectures it is made for
    system: str  # operating system and processor
    form: int = FORM

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def file(self, folder: Path) -> Path:
        return folder / f"{self.backend}-{self.precision}-{self.digest}.plan"


_SPOKEN = {
    "version": "version", "network": "exported network", "precision": "precision",
    "gpu": "GPU", "system": "system", "form": "form of plans",
}  # fmt: skip


def default_folder() -> Path:
    """Where plans are kept when no folder is set: the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(cache) if cache else Path.home() / ".cache") / "troupe" / "plans"


def store(key: Key, plan: bytes, folder: Path, **facts: Any) -> Path:
    """Write the plan and its note; a reader sees both whole or neither.  Returns its path."""
    path = key.file(folder)
    note = {"key": asdict(key), "sha256": hashlib.sha256(plan).hexdigest(), **facts}
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _put(path, plan)
        _put(path.with_suffix(".json"), json.dumps(note, indent=2).encode())
    except OSError as error:
        raise EngineError(
            f"cannot keep the plan in {folder}: {error}; name another folder with --plans"
        ) from error
    return path


def _put(path: Path, data: bytes) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)  # in one step: two builders may write the same plan
    finally:
        partial.unlink(missing_ok=True)


def fetch(key: Key, folder: Path, mend: str) -> bytes:
    """The newest plan that is made from what `key` says; its sizes may be any.  `mend` is the
    command that makes one.

    Raises StalePlan where there is one made from something else, or a damaged one, and EngineError
    where there is none at all.
    """
    of_backend = [kept for kept in kept_plans(folder) if kept.key.get("backend") == key.backend]
    if not of_backend:
        raise EngineError(f"{key.backend}: no plan is compiled yet. Make it: {mend}")
    gaps = [(differences(kept.key, key), kept) for kept in of_backend]
    least, nearest = min(gaps, key=lambda pair: (len(pair[0]), -pair[1].path.stat().st_mtime))
    if least:
        raise StalePlan(f"{nearest.path} is stale ({'; '.join(least)}). Make it anew: {mend}")
    try:
        plan = nearest.path.read_bytes()
    except OSError as error:
        raise StalePlan(
            f"{nearest.path}: cannot be read ({error}). Make it anew: {mend}"
        ) from error
    if hashlib.sha256(plan).hexdigest() != nearest.facts.get("sha256"):
        raise StalePlan(f"{nearest.path}: damaged, {len(plan)} bytes. Make it anew: {mend}")
    return plan


class KeptPlan(NamedTuple):
    path: Path
    key: dict[str, Any]
    facts: dict[str, Any]


def kept_plans(folder: Path) -> list[KeptPlan]:
    """The plans of a folder, each with what it was made from, as far as that can be read."""
    found = []
    for note in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            facts = json.loads(note.read_text(encoding="utf-8"))
            key = facts.pop("key")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if isinstance(key, dict) and note.with_suffix(".plan").is_file():
            found.append(KeptPlan(note.with_suffix(".plan"), key, facts))
    return found


def differences(made: dict[str, Any], wanted: Key) -> list[str]:
    """What is not as it was when a plan was made, in words.  Sizes do not count: every plan serves
    any, and says itself which it is tuned for."""
    gaps = []
    for name, said in _SPOKEN.items():
        old, new = made.get(name), getattr(wanted, name)
        if old != new and not (name == "gpu" and serves(str(old), str(new))):
            gaps.append(f"{said}: made for {_short(old)}, here {_short(new)}")
    return gaps


def serves(made: str, here: str) -> bool:
    """Whether a plan for the GPU `made` runs on the GPU `here`; of tensorrt-rtx both are
    architectures, "SM89" here and one, several or `ANY_RTX` there."""
    if made == ANY_RTX and here[:2] == "SM" and here[2:].isdigit():
        return int(here[2:]) >= 80
    return here in made.split(", ") if here.startswith("SM") else made == here


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 and " " not in text else text
