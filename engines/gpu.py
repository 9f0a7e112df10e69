"""The engine of a GPU: pictures flow through upload, network, full-size mattes and download, each
on a lane of its own, several pictures at once.

    host memory --upload--> picture --infer--> answer --download--> who is there (host decides)
                               |                 |                        |
                               +-----------------+------detail <----------+ --download--> mattes

Each picture under way has a slot: pinned memory, device memory, the network's inputs and outputs at
fixed addresses, and a CUDA graph over them.  Slots are used in turn, and a slot is free again when
its mattes have been taken, so nothing is allocated per picture on the device and nothing waits for
the whole device.  What a video remembers stays on the device.

`submit` puts a picture under way and `Pending.result` takes its mattes; `step` does both.  The same
code runs on the lanes of lanes.py without a GPU; overlapped and serial runs are equal bit for bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import numpy as np

from engines.base import NotFinite, State, due, passed_on
from engines.lanes import Lanes, Mark
from engines.people import LEAST, Answer, choose, equals, share_out, working_size
from matting.frames import UNTRACKED, Mattes, no_one

SIZES_KEPT = 6  # sizes a slot stays ready for: a folder of photographs has many shapes
READY = (288, 512)  # the size made ready at load: 16:9
TOLD = ("score", "code", "location")  # parts of the answer that the host decides by


class Binding(ABC):
    """A network at one size with memory of its own: what a CUDA graph is recorded over."""

    image: Any  # (batch, h, w, 3) uint8 on the device: filled before a run
    states: dict[str, Any]  # what is remembered, in: name -> tensor, float32
    next_states: dict[str, Any]  # what is remembered, out: same names
    answer: dict[str, Any]  # the network's outputs by the names of people.Answer, each (batch, ...)
    recordable = True  # whether a CUDA graph may be recorded over `run`

    @abstractmethod
    def run(self) -> None:
        """Enqueue the network on the lane whose work this is."""


class DeviceNetwork(ABC):
    """A network that is ready to run on a device."""

    name: str  # the backend, as the configuration spells it
    device: Any  # torch.device

    @abstractmethod
    def bind(self, size: tuple[int, int], lanes: Lanes, batch: int = 1) -> Binding:
        """Memory and kernels for `batch` pictures of `size`; warm, so that `run` allocates nothing.

        Raises EngineError where the network was not compiled for this size.
        """

    def close(self) -> None:
        """Give the device's memory back."""


class _Slot:
    """One place for a picture under way."""

    def __init__(self, network: DeviceNetwork, lanes: Lanes) -> None:
        self._network, self._lanes = network, lanes
        self._bindings: OrderedDict[tuple[int, int], tuple[Binding, Callable[[], Any]]]
        self._bindings = OrderedDict()
        self._room: dict[tuple[str, Any], Any] = {}  # what for, and dtype -> flat tensor
        self.pending: Pending | None = None

    def binding(self, size: tuple[int, int]) -> tuple[Binding, Callable[[], Any]]:
        if size not in self._bindings:
            if len(self._bindings) >= SIZES_KEPT:
                self._bindings.popitem(last=False)
            bound = self._network.bind(size, self._lanes)
            run = self._lanes.infer.recorded(bound.run) if bound.recordable else bound.run
            self._bindings[size] = bound, run
        self._bindings.move_to_end(size)
        return self._bindings[size]

    def empty(self) -> None:
        self._bindings.clear()
        self._room.clear()

    def room(self, what: str, shape: tuple[int, ...], dtype: Any, *, host: bool = False) -> Any:
        """Memory of this slot that is kept for one purpose and grows when it has to."""
        count = int(np.prod(shape))
        flat = self._room.get((what, dtype))
        if flat is None or flat.numel() < count:
            make = self._lanes.host_memory if host else self._lanes.memory
            flat = self._room[what, dtype] = make((count,), dtype)
        return flat[:count].view(shape)


class Pending:
    """The mattes of a picture that is under way."""

    def __init__(self, engine: GpuEngine, slot: _Slot, size: tuple[int, int]) -> None:
        self._engine, self.slot, self.size = engine, slot, size
        self.picture: Any = None  # (H, W, 3) uint8 on the device
        self.bound: Any = None
        self.inferred: Mark
        self.told: Mark
        self.told_host: dict[str, Any] = {}
        self._finish: Callable[[], Mattes] | None = None
        self._mattes: Mattes | None = None
        self._failure: BaseException | None = None

    def advance(self) -> None:
        """Enqueue the full-size mattes if the network's answer is here; never waits for it."""
        begun = (self._finish, self._mattes, self._failure) != (None, None, None)
        if begun or not self.told.reached():
            return
        try:
            self._finish = self._engine.draw(self)
        except Exception as error:  # told by `result`, to whom this picture belongs
            self._failure = error

    def result(self) -> Mattes:
        """The mattes, waiting for them.  They are the caller's.  A second call gives the same."""
        if self._mattes is None and self._failure is None:
            try:
                self.told.wait()
                self.advance()
                if self._finish is not None:
                    self._mattes = self._finish()
            except Exception as error:
                self._failure = error
        if self.slot.pending is self:
            self.slot.pending = None
        self._finish = None
        if self._failure is not None:
            raise self._failure
        assert self._mattes is not None
        return self._mattes


class _Kept:
    __slots__ = ("arrays",)


class Remembered(_Kept):
    """What a video remembers, on the device.  Where it is kept between runs (stream/snapshot.py),
    it is read and set as `arrays`, on the host."""

    NOT_KEPT = ("tensors", "given")
    __slots__ = ("given", "tensors")

    def __init__(self, tensors: dict[str, Any]) -> None:
        self.tensors: dict[str, Any] | None = tensors
        self.given: dict[str, np.ndarray] | None = None

    @property  # type: ignore[override]
    def arrays(self) -> dict[str, np.ndarray] | None:
        if self.tensors is None:
            return self.given
        return {name: tensor.cpu().numpy() for name, tensor in self.tensors.items()}

    @arrays.setter
    def arrays(self, given: dict[str, np.ndarray]) -> None:
        self.given = given


class _Downloaded:
    """Mattes that the device has drawn; see matting.frames.Alphas.  Picking copies nothing yet."""

    def __init__(
        self, alpha: np.ndarray, codes: np.ndarray, rows: np.ndarray | None = None
    ) -> None:
        self._alpha, self._codes, self._rows = alpha, codes, rows

    @property
    def shape(self) -> tuple[int, int, int]:
        count = len(self._alpha) if self._rows is None else len(self._rows)
        return count, *self._alpha.shape[1:]

    def pick(self, rows: np.ndarray) -> _Downloaded:
        return _Downloaded(
            self._alpha, self._codes, rows if self._rows is None else self._rows[rows]
        )

    def alpha(self) -> np.ndarray:
        """(n, H, W) float32, 0..1."""
        self._settle()
        return self._alpha

    def codes(self) -> np.ndarray:
        """(n, H, W) uint8, alpha times 255, rounded."""
        self._settle()
        return self._codes

    def finite(self) -> bool:
        return True  # looked at on the device, before this was made

    def _settle(self) -> None:
        if self._rows is not None:
            self._alpha, self._codes = self._alpha[self._rows], self._codes[self._rows]
            self._rows = None


class GpuEngine:
    """An engine (engines/base.py) over a network on a device, `in_flight` pictures at a time."""

    def __init__(
        self, network: DeviceNetwork, lanes: Lanes, score_threshold: float, in_flight: int = 3
    ) -> None:
        import torch

        if in_flight < 1:
            raise ValueError(f"in_flight should be at least 1, got {in_flight}")
        self._torch = torch
        self.name, self.in_flight, self.score_threshold = network.name, in_flight, score_threshold
        self.network, self.lanes = network, lanes
        self._slots = [_Slot(network, lanes) for _ in range(in_flight)]
        self._turn = 0
        self._shrinkers: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self.warm_up((READY,))

    def warm_up(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Be ready for pictures of these working sizes: every slot, every lane, every graph."""
        for size in sizes:
            for _ in self._slots:
                self.step(np.zeros((*size, 3), np.uint8), self.start())

    def start(self) -> State:
        return None  # zeros, once the size is known

    def step(self, rgb: np.ndarray, state: State) -> tuple[Mattes, State]:
        pending, state = self.submit(rgb, state)
        return pending.result(), state

    def submit(self, rgb: np.ndarray, state: State) -> tuple[Pending, State]:
        """Put a picture under way.  The state that is returned may be passed on at once.

        Refuses a picture it cannot matte before anything is enqueued.  Where `in_flight` pictures
        are under way already, waits for the oldest; its mattes are kept for whoever holds them.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise ValueError(f"expected (H, W, 3) uint8 RGB, got {rgb.shape} {rgb.dtype}")
        torch, lanes = self._torch, self.lanes
        size = working_size(rgb.shape[:2])
        slot = self._slots[self._turn % len(self._slots)]
        if slot.pending is not None:
            with suppress(Exception):  # told to whoever holds it
                slot.pending.result()
        bound, run = slot.binding(size)
        self._turn += 1
        before = self._carried(due(state), bound)
        pending = Pending(self, slot, rgb.shape[:2])

        pinned = slot.room("pinned picture", rgb.shape, torch.uint8, host=True)
        picture = pending.picture = slot.room("picture", rgb.shape, torch.uint8)
        np.copyto(pinned.numpy(), rgb)
        lanes.upload.do(lambda: picture.copy_(pinned, non_blocking=True))
        uploaded = lanes.upload.mark()

        shrink = self._shrinker(rgb.shape[:2], size)
        after = {name: self._remembered(tensor) for name, tensor in bound.next_states.items()}

        def infer() -> None:
            shrink(picture, bound.image)
            for name, tensor in bound.states.items():
                tensor.copy_(before[name]) if before else tensor.zero_()
            run()
            for name, tensor in bound.next_states.items():
                # nobody can look before the next picture is under way, so the device does
                sound = torch.isfinite(tensor).all()
                torch.where(sound, tensor, bound.states[name], out=after[name])

        lanes.infer.after(uploaded)
        lanes.infer.do(infer)
        pending.bound, pending.inferred = bound, lanes.infer.mark()

        for name in TOLD:
            part = bound.answer[name]
            pending.told_host[name] = slot.room(f"told {name}", part.shape, part.dtype, host=True)

        def tell() -> None:
            for name, host in pending.told_host.items():
                host.copy_(bound.answer[name], non_blocking=True)

        lanes.download.after(pending.inferred)
        lanes.download.do(tell)
        pending.told = lanes.download.mark()
        slot.pending = pending
        for other in self._slots:  # whoever's answer has come meanwhile goes on to full size
            if other.pending is not None and other.pending is not pending:
                other.pending.advance()
        return pending, passed_on(state, Remembered(after)) if after else {}

    def _carried(self, state: Remembered | None, bound: Binding) -> dict[str, Any] | None:
        """The tensors of what is remembered; None for the first pictures of a video."""
        if not bound.states or state is None:
            return None
        if state.tensors is None:  # from another run
            given = state.given or {}
            state.tensors = {
                name: self._torch.from_numpy(array).to(self.network.device)
                for name, array in given.items()
            }
            self.lanes.settle()
        fits = all(
            name in state.tensors and state.tensors[name].shape == tensor.shape
            for name, tensor in bound.states.items()
        )
        return state.tensors if fits else None  # pictures of another size begin anew

    def _remembered(self, like: Any) -> Any:
        """Memory for a state: made on the infer lane's stream, where alone it is used."""
        with self.lanes.allocating():
            return self._torch.empty_like(like)

    def _shrinker(self, size: tuple[int, int], target: tuple[int, int]) -> Any:
        from engines.device_people import Shrinker

        key = (*size, *target)
        if key not in self._shrinkers:
            if len(self._shrinkers) >= 4 * SIZES_KEPT:
                self.lanes.infer.finish()  # the one that goes may be in use
                self._shrinkers.popitem(last=False)
            made = Shrinker(size, target, self.network.device)
            self.lanes.settle()
            self._shrinkers[key] = made
        self._shrinkers.move_to_end(key)
        return self._shrinkers[key]

    def draw(self, pending: Pending) -> Callable[[], Mattes]:
        """Decide who is there, enqueue their alpha, and return what waits for it."""
        torch, lanes, slot, size = self._torch, self.lanes, pending.slot, pending.size
        told = {name: part.numpy()[0].copy() for name, part in pending.told_host.items()}
        if not all(np.isfinite(part.sum()) for part in told.values()):
            raise NotFinite(f"{self.name}: the network answered with numbers that are not finite")
        answer = Answer(**told, trimap=np.empty(0), kernels=np.empty(0), fine=np.empty(0))
        rows = choose(answer, self.score_threshold)
        if not len(rows):
            empty = no_one(size, answer.location.shape[1:], answer.code.shape[1])
            return lambda: empty

        alpha = slot.room("alpha", (len(rows), *size), torch.float32)
        facts = slot.room("facts", (len(rows), 5), torch.float32)
        # of its own for every picture, because it is what the caller gets; pinned memory is
        # handed around by PyTorch's allocator, which knows what copies are still under way
        host = lanes.host_memory((len(rows), *size), torch.float32)
        host_codes = lanes.host_memory((len(rows), *size), torch.uint8)
        codes = slot.room("codes", (len(rows), *size), torch.uint8)
        told_facts = slot.room("pinned facts", (len(rows), 5), torch.float32, host=True)
        alike = equals(answer, rows)

        def detail() -> None:
            self._draw(pending, rows.tolist(), alike, alpha, facts)
            codes.copy_((alpha * 255).round_())

        def download() -> None:
            host_codes.copy_(codes, non_blocking=True)
            host.copy_(alpha, non_blocking=True)
            told_facts.copy_(facts, non_blocking=True)

        lanes.detail.after(pending.inferred)
        lanes.detail.do(detail)
        drawn = lanes.detail.mark()
        lanes.download.after(drawn)
        lanes.download.do(download)
        landed = lanes.download.mark()

        def finish() -> Mattes:
            landed.wait()
            drawn = _Downloaded(host.numpy(), host_codes.numpy())
            return self._assembled(answer, rows, alike, drawn, told_facts.numpy())

        return finish

    def _draw(
        self, pending: Pending, rows: list[int], alike: np.ndarray, alpha: Any, facts: Any
    ) -> None:
        """On the detail lane: everyone's alpha at full size, shared out."""
        from engines import device_people as device

        part = {name: tensor[0] for name, tensor in pending.bound.answer.items()}
        with self._torch.inference_mode():
            rgb = pending.picture.permute(2, 0, 1).float()
            for i, row in enumerate(rows):
                mixed = device.coefficients(part["kernels"][row], part["fine"], part["trimap"][row])
                device.matte(mixed, rgb, alpha[i])
            if len(rows) > 1:
                location = self._torch.stack([part["location"][row] for row in rows])
                device.share_out(alpha, alike, location, part["fine"].shape[1:])
            for i in range(len(rows)):
                facts[i].copy_(device.extent(alpha[i]))

    def _assembled(
        self, answer: Answer, rows: np.ndarray, alike: np.ndarray, drawn: _Downloaded,
        facts: np.ndarray,
    ) -> Mattes:  # fmt: skip
        """On the host: who is enough of a person, and everyone as the contract wants them."""
        if not np.isfinite(facts.sum()):  # facts are of every pixel
            raise NotFinite(f"{self.name}: mattes with numbers that are not finite")
        kept = np.flatnonzero((facts[:, 0] >= LEAST) & (facts[:, 3] > facts[:, 1]))
        if not len(kept):
            return no_one(drawn.shape[1:], answer.location.shape[1:], answer.code.shape[1])
        rows = rows[kept]
        coarse = answer.location[rows].copy()
        share_out(coarse, alike[kept], coarse.copy())
        return Mattes(
            alpha=drawn if len(kept) == len(facts) else drawn.pick(kept), coarse=coarse,
            score=answer.score[rows], box=facts[kept, 1:].copy(), code=answer.code[rows],
            ids=np.full(len(rows), UNTRACKED, np.int64),
        )  # fmt: skip

    def release(self) -> None:
        """Give back the memory of every size, where there is not enough; it is made again."""
        for lane in self.lanes.every():
            lane.finish()
        for slot in self._slots:
            if slot.pending is None:
                slot.empty()

    def close(self) -> None:
        """Finish what is under way and give the memory back."""
        try:
            self.lanes.close()
        finally:
            self._slots.clear()
            self._shrinkers.clear()
            self.network.close()
