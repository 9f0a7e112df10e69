"""The exported network in 8-bit whole numbers: python -m engines.quantise weights

Post-training quantisation with NNCF for `openvino-int8`.  Only convolutions are turned: they are
what costs, and sums, norms, resizes and products between them lose too much (docs/speed.md).

Every other labelled picture calibrates, the rest judge: each person's IoU and mean absolute
difference (MAD, x 1000, over the picture) against the labels, in float32, bfloat16 and int8.  The
result is kept only if neither figure is worse by more than 2 % of what float32 has; run it again
after every new export.

Pictures are NAME.webp, .jpg or .png of a folder with ids in NAME.png or NAME_ids.png (0 = no one).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from engines.base import Engine, EngineError
from engines.exported import exported_file, filled
from engines.openvino_engine import INT8, OpenVinoEngine, digest
from engines.people import shrink

LOSS = 0.02  # of float32's figure, above which a network is not kept
TURNED = {"Convolution", "GroupConvolution"}  # OpenVINO's operations that are computed in int8
PICTURES = (".webp", ".jpg", ".jpeg", ".png")


class Labelled(NamedTuple):
    rgb: np.ndarray  # (H, W, 3) uint8
    ids: np.ndarray  # (H, W) uint8; 0 = no one, 255 = not judged


class Figures(NamedTuple):
    people: int
    iou: float  # mean over people; one who is missed counts 0
    mad: float  # mean over people, x 1000; one who is missed counts in full

    def loss_against(self, other: Figures) -> float:
        """The greater of both losses, as a share of the other's figure."""
        return max(1 - self.iou / max(other.iou, 1e-9), self.mad / max(other.mad, 1e-9) - 1)


def labelled(folder: Path) -> list[tuple[Path, Path]]:
    """(picture, its ids) of a folder, by name."""
    found = []
    for picture in sorted(folder.glob("*")):
        if picture.suffix.lower() not in PICTURES or picture.stem.endswith("_ids"):
            continue
        beside = [picture.with_suffix(".png"), picture.with_name(picture.stem + "_ids.png")]
        ids = [path for path in beside if path != picture and path.is_file()]
        if ids:
            found.append((picture, ids[0]))
    return found


def read(picture: Path, ids: Path) -> Labelled:
    bgr, truth = cv2.imread(str(picture)), cv2.imread(str(ids), cv2.IMREAD_GRAYSCALE)
    if bgr is None or truth is None or bgr.shape[:2] != truth.shape:
        raise EngineError(f"{picture} and {ids} should be a picture and its ids, of one size")
    return Labelled(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), truth)


def judged(engine: Engine, pictures: list[tuple[Path, Path]]) -> Figures:
    """How well an engine mattes the labelled people; each takes the answer most like it."""
    ious, mads = [], []
    for paths in pictures:
        rgb, ids = read(*paths)
        counted = ids != 255
        mattes, _ = engine.step(rgb, engine.start())
        mattes = mattes.pick(np.flatnonzero(mattes.score >= 0.5))
        free = set(range(len(mattes)))
        for person in np.setdiff1d(np.unique(ids), [0, 255]):
            truth = ids == person
            best, iou = None, 0.0
            for i in free:
                ours = (mattes.alpha[i] > 0.5) & counted
                both, either = (ours & truth).sum(), (ours | truth).sum()
                if both / max(1, either) > iou:
                    best, iou = i, float(both / either)
            free -= {best}
            alpha = mattes.alpha[best] if best is not None else np.zeros(ids.shape, np.float32)
            ious.append(iou)
            mads.append(1000 * float(np.abs(alpha - truth)[counted].mean()))
    if not ious:
        raise EngineError("there is no labelled person in these pictures")
    return Figures(len(ious), float(np.mean(ious)), float(np.mean(mads)))


def calibration(
    engine: OpenVinoEngine, pictures: list[tuple[Path, Path]]
) -> Iterator[dict[str, np.ndarray]]:
    """What the network is shown: each picture with an empty memory and with what it kept of it."""
    for paths in pictures:
        rgb = read(*paths).rgb
        size = engine.working_size(rgb.shape[:2])
        image, empty = shrink(rgb, size), filled({}, engine._keeps, size)
        yield {"image": image, **empty}
        if empty:
            yield {"image": image, **engine._run(engine.network(size), image, empty)[1]}


def quantised(exported: Path, shown: list[dict[str, np.ndarray]]) -> Any:
    """The network with convolutions in int8, sizes open.  Slow: minutes."""
    import nncf
    import openvino
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    model = openvino.Core().read_model(str(exported))
    exact = {op.get_type_name() for op in model.get_ops()} - TURNED
    made = nncf.quantize(
        model, nncf.Dataset(shown), subset_size=len(shown),
        preset=nncf.QuantizationPreset.MIXED,  # activations after a ReLU are one-sided, others not
        ignored_scope=nncf.IgnoredScope(types=sorted(exact), validate=False),
        advanced_parameters=AdvancedQuantizationParameters(  # the mean over pictures, not the worst
            activations_range_estimator_params=RangeEstimatorParametersSet.MEAN_MINMAX
        ),
    )  # fmt: skip
    made.set_rt_info(digest(exported), ["troupe", "made_of"])
    return made


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m engines.quantise", description=__doc__.splitlines()[0]
    )
    parser.add_argument("weights", type=Path, help="live.onnx, or the folder it lies in")
    parser.add_argument("--pictures", type=Path, default=Path("../shared/data/scenes"))
    parser.add_argument("--calibrate", type=int, default=60, help="pictures shown, at most")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    args = parser.parse_args(argv)
    try:
        return _made(args)
    except (EngineError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 6


def _made(args: argparse.Namespace) -> int:
    import openvino

    exported = exported_file(args.weights)
    pictures = labelled(args.pictures)
    if len(pictures) < 2:
        raise EngineError(f"{args.pictures}: expected labelled pictures there, found none")
    shown_of, judges = pictures[::2][: args.calibrate], pictures[1::2]

    plain = OpenVinoEngine(exported, args.threads, 0.3)
    found = {"float32": judged(plain, judges)}
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / exported.name
        shutil.copy(exported, trial)
        made = quantised(trial, list(calibration(plain, shown_of)))
        plain.close()
        openvino.save_model(made, str(trial.with_name(trial.stem + INT8)), compress_to_fp16=True)
        for name, precision in (("bfloat16", "bf16"), ("int8", "int8")):
            try:
                engine = OpenVinoEngine(trial, args.threads, 0.3, precision)
            except EngineError as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
            found[name] = judged(engine, judges)
            engine.close()
        loss = found["int8"].loss_against(found["float32"])
        kept = loss <= LOSS
        target = exported.with_name(exported.stem + INT8)
        for suffix in (".xml", ".bin"):
            file = target.with_suffix(suffix)
            file.unlink(missing_ok=True)  # one of an earlier export would be stale
            if kept:
                shutil.copy(trial.with_name(target.name).with_suffix(suffix), file)
    if args.json:
        facts = {name: figures._asdict() for name, figures in found.items()}
        print(json.dumps({"network": digest(exported), **facts, "loss": loss, "kept": kept}))
    else:
        print(f"{'':10}{'people':>8}{'IoU':>8}{'MAD':>8}{'loss':>8}")
        for name, figures in found.items():
            share = figures.loss_against(found["float32"])
            print(f"{name:10}{figures.people:8}{figures.iou:8.4f}{figures.mad:8.2f}{share:8.1%}")
        print(f"int8 {f'is kept as {target}' if kept else 'is not kept: it loses too much'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
