"""Backgrounds that people send: taken in with a limit, and made harmless by another process.

What arrives is a stranger's file.  It is written under a random name into a folder of our own, and
another process with little memory, little time and no way to open anything else decodes it and
writes it anew: a PNG, or an H.264 file without sound.  Only that copy is ever opened here.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

LONGEST_NAME = 80
MOST_ITEMS = 40
DECODE_SECONDS = 120  # wall clock of the other process
ROOT = Path(__file__).resolve().parent.parent


class UploadError(ValueError):
    """An upload that is not taken; `status` is the HTTP code."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Background:
    """A picture or video that can stand behind someone."""

    id: str
    name: str  # what people called it; never part of a path
    kind: str  # "picture" | "video"
    path: Path
    thumbnail: Path | None


class Library:
    """The backgrounds of one session.  The folder is removed with it."""

    def __init__(self, megabytes: int) -> None:
        self.limit_bytes = megabytes * 1_000_000
        self._folder = Path(tempfile.mkdtemp(prefix="troupe-"))  # mode 0700
        self._items: dict[str, Background] = {}
        self._lock = threading.Lock()
        self._decoding = threading.Lock()  # one stranger's file at a time

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def items(self) -> list[Background]:
        with self._lock:
            return list(self._items.values())

    def get(self, id: str) -> Background | None:
        with self._lock:
            return self._items.get(id)

    def id_of(self, path: str) -> str | None:
        return next((item.id for item in self.items if str(item.path) == path), None)

    def add_given(self, path: str) -> Background:
        """A file the program was started with: trusted, and left where it is."""
        known = self.id_of(path)
        if known:
            return self._items[known]
        item = Background(secrets.token_hex(8), Path(path).name, "picture", Path(path), None)
        with self._lock:
            self._items[item.id] = item
        return item

    def remove(self, id: str) -> None:
        with self._lock:
            item = self._items.pop(id, None)
        if item and item.path.parent == self._folder:
            item.path.unlink(missing_ok=True)
            if item.thumbnail:
                item.thumbnail.unlink(missing_ok=True)

    def check_room(self, length: str | None) -> None:
        """Refuse before anything is read, where that can be."""
        if len(self.items) >= MOST_ITEMS:
            raise UploadError(f"there are {MOST_ITEMS} backgrounds already; remove one first", 409)
        if length is not None and (not length.isdecimal() or int(length) > self.limit_bytes):
            raise UploadError(self._too_large(), 413)

    def _too_large(self) -> str:
        return (f"the file is larger than {self.limit_bytes // 1_000_000} MB "
                "(the limit is live.upload_megabytes)")  # fmt: skip

    async def receive(self, pieces: AsyncIterator[bytes]) -> Path:
        """Write what comes to a file of ours, and stop at the limit."""
        path = self._folder / f"incoming-{secrets.token_hex(8)}"
        size = 0
        try:
            with path.open("xb") as file:
                os.chmod(path, 0o600)
                async for piece in pieces:
                    size += len(piece)
                    if size > self.limit_bytes:
                        raise UploadError(self._too_large(), 413)
                    file.write(piece)
            if not size:
                raise UploadError("the file is empty")
        except OSError as error:
            path.unlink(missing_ok=True)
            raise UploadError(f"the file cannot be kept ({error.strerror})", 507) from None
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def take_in(self, incoming: Path, name: str) -> Background:
        """Decode in the limited process, and keep its copy.  Blocks; `incoming` is removed."""
        id = secrets.token_hex(8)
        try:
            with self._decoding:
                told = _decode(incoming, self._folder / id)
        finally:
            incoming.unlink(missing_ok=True)
        shown = "".join(c for c in name if c.isprintable()).strip()[:LONGEST_NAME] or "background"
        item = Background(id, shown, told["kind"], self._folder / told["file"],
                          self._folder / told["thumbnail"])  # fmt: skip
        with self._lock:
            self._items[id] = item
        return item


def _decode(incoming: Path, out: Path) -> dict[str, str]:
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
                   "OPENBLAS_NUM_THREADS": "1"}  # fmt: skip
    for name in ("SYSTEMROOT", "LD_LIBRARY_PATH"):
        if name in os.environ:
            environment[name] = os.environ[name]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "web.decode_upload", str(incoming), str(out)],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=DECODE_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        for made in out.parent.glob(out.name + ".*"):
            made.unlink(missing_ok=True)
        raise UploadError(
            "the file takes too long to decode; use a shorter or smaller one"
        ) from None
    if done.returncode:
        for made in out.parent.glob(out.name + ".*"):
            made.unlink(missing_ok=True)
        said = done.stderr.strip().splitlines()
        why = said[-1][7:] if said and said[-1].startswith("upload:") else (
            "the file cannot be decoded within the limits of memory and time"
        )  # fmt: skip
        raise UploadError(why.strip())
    return json.loads(done.stdout)
