"""Scores on pictures never trained on, and sheets to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from matting.metrics import dtssd, matting_quality, overlap_matrix
from matting.metrics import match as pair
from matting.network.live import LiveNetwork, mattes
from matting.synthesis.scenes import Sample, random_scene, render, sequence
from matting.synthesis.sources import Sources

SEED = 90210  # of the validation scenes; changing it makes older scores incomparable
COLOURS = np.array(
    [(230, 80, 60), (70, 190, 90), (70, 110, 230), (240, 200, 60), (190, 90, 220), (80, 210, 220),
     (240, 140, 60), (150, 150, 150)], np.float32,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scores:
    """Over synthetic scenes; `photo_*` over the held-out photographs (binary, by hand)."""

    mad: float  # per-person alpha, x 1000 of the whole picture; a missed person counts in full
    iou: float  # of alpha > 0.5, mean over true people; 0 when missed
    recall: float  # share of true people found at IoU 0.5
    extra: float  # people found that are not there, per picture
    imq: float  # IMQ by MAD (InstMatt, CVPR 2022), x 100
    photo_iou: float
    photo_recall: float
    photo_extra: float
    flicker: float  # dtSSD of people over moving scenes (Erofeev et al. 2015); a missed one in full
    flicker_alone: float  # the same with every frame matted by itself

    @property
    def headline(self) -> float:
        """One number to choose weights by: higher is better."""
        return self.iou + self.photo_iou + self.imq / 100 - 0.05 * (self.extra + self.photo_extra)

    def told(self) -> str:
        return ", ".join(f"{name} {getattr(self, name):.3f}" for name in self.__dataclass_fields__)


def validation_scenes(sources: Sources, size: tuple[int, int], count: int) -> list[Sample]:
    return [
        render(random_scene(sources, size, [SEED, i], photos=0.0)) for i in range(count)
    ]


def validation_clips(sources: Sources, size: tuple[int, int], count: int) -> list[list[Sample]]:
    """Moving scenes of 8 frames, a fifteenth of a second apart."""
    return [
        list(sequence(sources, size, [SEED, i, 1], frames=8, rate=15.0)) for i in range(count)
    ]


def photo_samples(sources: Sources, size: tuple[int, int]) -> list[Sample]:
    """Held-out photographs whole, fitted to `size` with a gray surround."""
    made = []
    for photo in sources.photos:
        h, w = photo.ids.shape
        scale = min(size[0] / h, size[1] / w)
        to = (round(w * scale), round(h * scale))
        rgb, ids = np.full((*size, 3), 127, np.uint8), np.zeros(size, np.uint8)
        rgb[: to[1], : to[0]] = cv2.resize(photo.rgb, to, interpolation=cv2.INTER_AREA)
        ids[: to[1], : to[0]] = cv2.resize(photo.ids, to, interpolation=cv2.INTER_NEAREST)
        alpha = np.stack([(ids == i).astype(np.uint8) * 255 for i in np.unique(ids[ids > 0])])
        made.append(Sample(rgb, alpha, alpha, ids >= 0, alpha.sum(0, dtype=np.uint8), True))
    return made


@torch.no_grad()
def predict(
    network: LiveNetwork, sample: Sample, scale: int, device: torch.device,
    memory: torch.Tensor | None = None,
) -> tuple[np.ndarray, np.ndarray, torch.Tensor | None]:  # fmt: skip
    """alpha (n, H, W) float32 in 0..1, score (n,), and the memory for the next frame; the network
    sees the picture `scale` times smaller."""
    rgb = torch.from_numpy(sample.rgb).to(device).permute(2, 0, 1).float() / 127.5 - 1
    small = torch.nn.functional.avg_pool2d(rgb[None], scale) if scale > 1 else rgb[None]
    output = network(small.contiguous(memory_format=torch.channels_last), None, memory)
    alpha, score, _ = mattes(output, rgb)
    return alpha.cpu().numpy(), score.cpu().numpy(), output.memory


def flicker(
    network: LiveNetwork, clips: list[list[Sample]], device: torch.device, remember: bool
) -> float:
    """Mean dtSSD of the people who are in view from the first frame of a clip to the last."""
    values = []
    for clip in clips:
        stay = set.intersection(*(set(sample.ids) for sample in clip))
        films: dict[int, list[np.ndarray]] = {name: [] for name in stay}
        truths: dict[int, list[np.ndarray]] = {name: [] for name in stay}
        memory = None
        for sample in clip:
            alpha, _, memory = predict(network, sample, 1, device, memory)
            memory = memory if remember else None
            truth = sample.alpha.astype(np.float32) / 255
            rows, columns = pair(overlap_matrix(alpha, truth, 0.5), 0.1)
            got = dict(zip(columns.tolist(), rows.tolist(), strict=True))
            for c, name in enumerate(sample.ids):
                if name in stay:
                    films[name].append(alpha[got[c]] if c in got else np.zeros_like(truth[c]))
                    truths[name].append(truth[c])
        values += [dtssd(np.stack(films[name]), np.stack(truths[name])) for name in sorted(stay)]
    return float(np.mean(values)) if values else 0.0


def measure(predicted: list[np.ndarray], samples: list[Sample]) -> dict[str, float]:
    """Pairs people by IoU of alpha > 0.5, picture by picture, and counts."""
    errors, overlaps, found, extra, people = [], [], 0, 0, 0
    for alpha, sample in zip(predicted, samples, strict=True):
        truth = sample.alpha.astype(np.float32) / 255
        iou = overlap_matrix(alpha, truth, 0.5)
        rows, columns = pair(iou, 0.1)
        got = dict(zip(columns.tolist(), rows.tolist(), strict=True))
        people += len(truth)
        extra += len(alpha) - len(got)
        for c in range(len(truth)):
            mine = alpha[got[c]] if c in got else np.zeros_like(truth[c])
            overlaps.append(iou[got[c], c] if c in got else 0.0)
            errors.append(float(np.abs(mine - truth[c]).mean()))
            found += overlaps[-1] >= 0.5
    return {
        "mad": 1000 * float(np.mean(errors)), "iou": float(np.mean(overlaps)),
        "recall": found / max(1, people), "extra": extra / len(samples),
    }  # fmt: skip


def score(
    network: LiveNetwork, scenes: list[Sample], photos: list[Sample], clips: list[list[Sample]],
    scale: int, device: torch.device,
) -> Scores:  # fmt: skip
    network.eval()
    made = [predict(network, s, scale, device)[0] for s in scenes]
    shot = [predict(network, s, scale, device)[0] for s in photos]
    synthetic, real = measure(made, scenes), measure(shot, photos)
    truths = (s.alpha.astype(np.float32) / 255 for s in scenes)
    quality = matting_quality(zip(made, truths, strict=True)).imq
    return Scores(
        **synthetic, imq=quality, photo_iou=real["iou"],
        photo_recall=real["recall"], photo_extra=real["extra"],
        flicker=flicker(network, clips, device, remember=True),
        flicker_alone=flicker(network, clips, device, remember=False),
    )  # fmt: skip


def tint(alpha: np.ndarray) -> np.ndarray:
    """(N, H, W) in 0..1 -> (H, W, 3) uint8, each person in a colour of their own."""
    colours = COLOURS[np.arange(len(alpha)) % len(COLOURS)]
    return np.einsum("nhw,nc->hwc", alpha, colours).clip(0, 255).astype(np.uint8)


def sheet(
    network: LiveNetwork, samples: list[Sample], scale: int, device: torch.device, path: Path
) -> None:
    """Picture, truth and answer of every sample, one under the other, as one PNG."""
    network.eval()
    tiles = []
    for sample in samples:
        alpha, _, _ = predict(network, sample, scale, device)
        rows = [sample.rgb, tint(sample.alpha / np.float32(255)), tint(alpha)]
        stacked = np.vstack(rows)
        tiles.append(cv2.resize(stacked, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    across = 6
    grid = [np.hstack(tiles[i : i + across]) for i in range(0, len(tiles) - across + 1, across)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.vstack(grid)[..., ::-1])
