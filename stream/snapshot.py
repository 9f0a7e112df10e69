"""Objects as bytes and back, without a pickle: reading one can never run code.

Numbers, text, containers, NumPy arrays, and objects whose classes live in the rooms that are named.
Their attributes are kept as they are, so a class needs to know nothing of this; what its
`NOT_KEPT` lists comes back as None.  An object that is referred to twice is one object again.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from importlib import import_module
from typing import Any

import numpy as np

HEAD = struct.Struct("<I")  # bytes of the JSON that precedes the arrays
PLAIN = (type(None), bool, int, float, str)


class SnapshotError(ValueError):
    """This cannot be kept, or is not what was kept; the message says what."""


def freeze(value: Any, rooms: Sequence[str]) -> bytes:
    """The bytes of a value.  Raises SnapshotError where something in it cannot be kept."""
    writer = _Writer(tuple(rooms))
    tree = json.dumps(writer.tree(value)).encode()
    return zlib.compress(HEAD.pack(len(tree)) + tree + b"".join(writer.blobs), 1)


def thaw(data: bytes, rooms: Sequence[str]) -> Any:
    """The value again.  Raises SnapshotError where the bytes are damaged or name other classes."""
    try:
        data = zlib.decompress(data)
        (length,) = HEAD.unpack_from(data)
        tree = json.loads(data[HEAD.size : HEAD.size + length])
        return _Reader(tuple(rooms), data[HEAD.size + length :]).value(tree)
    except SnapshotError:
        raise
    except Exception as error:
        raise SnapshotError(f"a snapshot cannot be read: {error}") from error


class _Writer:
    def __init__(self, rooms: tuple[str, ...]) -> None:
        self._rooms = rooms
        self.blobs: list[bytes] = []
        self._at = 0
        self._known: dict[int, tuple[int, Any]] = {}  # and the object, so that its id stays its own

    def tree(self, value: Any) -> Any:
        if type(value) in PLAIN:
            return value
        if id(value) in self._known:
            return ["again", self._known[id(value)][0]]
        if type(value) is bytes:
            return ["bytes", *self._blob(value)]
        if isinstance(value, np.generic):
            return ["number", value.dtype.str, *self._blob(value.tobytes())]
        if isinstance(value, Fraction):
            return ["fraction", str(value)]
        if type(value) is tuple:
            return ["tuple", [self.tree(item) for item in value]]
        number = len(self._known)
        self._known[id(value)] = number, value
        if isinstance(value, np.ndarray) and value.dtype != object:
            return ["array", value.dtype.str, value.shape, *self._blob(value.tobytes())]
        if type(value) is list:
            return ["list", [self.tree(item) for item in value]]
        if type(value) is deque:
            return ["deque", [self.tree(item) for item in value], value.maxlen]
        if type(value) is set:
            return ["set", [self.tree(item) for item in value]]
        if type(value) is dict:
            return ["dict", [[self.tree(k), self.tree(v)] for k, v in value.items()]]
        kind = type(value)
        if kind.__module__.split(".")[0] not in self._rooms:
            raise SnapshotError(f"a {kind.__module__}.{kind.__qualname__} cannot be kept")
        forgotten = getattr(kind, "NOT_KEPT", ())
        fields = [
            [name, None if name in forgotten else self.tree(item)]
            for name, item in _attributes(value)
        ]
        return ["object", kind.__module__, kind.__qualname__, fields]

    def _blob(self, data: bytes) -> tuple[int, int]:
        self.blobs.append(data)
        self._at += len(data)
        return self._at - len(data), len(data)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                yield name, getattr(value, name)


class _Reader:
    def __init__(self, rooms: tuple[str, ...], blobs: bytes) -> None:
        self._rooms, self._blobs = rooms, blobs
        self._known: list[Any] = []

    def value(self, tree: Any) -> Any:
        if type(tree) in PLAIN:
            return tree
        match tree:
            case ["again", number]:
                return self._known[number]
            case ["bytes", at, length]:
                return self._blob(at, length)
            case ["number", kind, at, length]:
                return np.frombuffer(self._blob(at, length), kind)[0]
            case ["fraction", text]:
                return Fraction(text)
            case ["tuple", items]:
                return tuple(self.value(item) for item in items)
            case ["array", kind, shape, at, length]:
                array = np.frombuffer(self._blob(at, length), kind).reshape(shape).copy()
                self._known.append(array)
                return array
            case ["list", items]:
                made: list[Any] = []
                self._known.append(made)
                made.extend(self.value(item) for item in items)
                return made
            case ["deque", items, most]:
                line: deque[Any] = deque(maxlen=most)
                self._known.append(line)
                line.extend(self.value(item) for item in items)
                return line
            case ["set", items]:
                bag: set[Any] = set()
                self._known.append(bag)
                bag.update(self.value(item) for item in items)
                return bag
            case ["dict", pairs]:
                table: dict[Any, Any] = {}
                self._known.append(table)
                for key, item in pairs:
                    key = self.value(key)
                    table[key] = self.value(item)
                return table
            case ["object", module, name, fields]:
                found = self._class(module, name)
                thing: Any = object.__new__(found)
                self._known.append(thing)
                for field, item in fields:
                    if field.startswith("__"):
                        raise SnapshotError(f"a snapshot sets {field}")
                    object.__setattr__(thing, field, self.value(item))
                return thing
        raise SnapshotError("a snapshot holds something of no known kind")

    def _class(self, module: str, name: str) -> type:
        if module.split(".")[0] not in self._rooms:
            raise SnapshotError(f"a snapshot names {module}, which is none of our rooms")
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        if not isinstance(found, type) or found.__module__ != module:
            raise SnapshotError(f"{module}.{name} is no class of ours")
        return found

    def _blob(self, at: int, length: int) -> bytes:
        return self._blobs[at : at + length]
