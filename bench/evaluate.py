"""Everything a matte is judged by, in one table, with pictures of the ten worst cases of each kind.

    python -m bench.evaluate --data ../shared/data --out out/eval

* scenes: made scenes of people and places never trained on; the truth is exact.  They are taken for
  photographs, which the program looks at twice, and for frames of a video, seen once.
* dim: the same scenes, the photographs below and the pictures without a person, each in a light no
  camera likes (BadLight of matting/synthesis/camera.py): too dark, of one colour, gray, hazy,
  glaring, or behind the people.  Seen once.
* headless: other made scenes, of people whose heads are all out of the picture.  Seen once.
* flicker: made scenes, moving, as shown: dtSSD with every frame matted by itself, as
  it is, and with mattes compared over time (stream/steady.py, as configs/thorough.yaml has it).
* photographs: Penn-Fudan, the 20 kept out of training (bench/evaluate_photos.py).
* clip: two children, heavy occlusion, true ids (bench/evaluate_clip.py), in the same three ways;
  its flicker is dtSSD against the outlines of those ids.
* webcams: people close to a camera.  Somebody's matte should be there in every frame, and nobody's
  who is not: chairs are the usual strangers.
* empty: held-out pictures without a person; whoever is found there is false.

A case is as bad as it is wrong: 1 - IoU where there is a truth, the area of false people elsewhere.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from heapq import nlargest
from pathlib import Path

import cv2
import numpy as np

from bench import machine
from bench.evaluate_clip import (
    ClipScores,
    clip_scores,
    compare,
    followed,
    label_files,
    read_labels,
)
from bench.evaluate_photos import (
    labelled_photographs,
    photo_score,
    photo_scores,
    photographed,
    read_photograph,
)
from bench.wiring import LoadEngine, add_options, engine_of, guarded, settings_of
from configs.schema import Settings
from engines.base import Engine, State
from matting.frames import Frame, Mattes
from matting.metrics import dtssd, match, matting_quality, messddt, overlap_matrix
from matting.synthesis import sources as material
from matting.synthesis.camera import BadLight
from matting.synthesis.scenes import Sample, random_scene, render, sequence
from run_stream import matted
from stream.compose import write_text

SEED = 4711  # of the made scenes
SIZE = (576, 1024)
WORST = 10
STEADY = 2  # as in configs/thorough.yaml
ALONE, AS_IT_IS, STEADIED = ", each frame by itself", "", ", steadied"
ONCE = ", seen once"  # made scenes as frames of a video are: photographs are looked at twice
CONFIDENT = 0.5
PLAIN = 0.02  # share of the picture; beside scraps seen between others, who count as people too
LABELS = Path(__file__).parents[1] / "configs/photo_labels.json"  # one "empty" picture is not
# How many people are in each, counted by eye: `bird` has one at the right edge, and a shoulder.
WEBCAMS = {"again": 1, "bird": 3, "help": 1, "school": 1}
COLOURS = np.array([(230, 80, 60), (70, 110, 230), (70, 190, 90), (240, 200, 60), (190, 90, 220),
                    (80, 210, 220)], np.float32)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One picture and what came of it, kept small until it is known to be among the worst."""

    badness: float
    name: str
    picture: np.ndarray  # (h, W, 3) uint8: picture, truth where there is one, answer


@dataclass(slots=True)
class Part:
    """One kind of evidence."""

    name: str
    figures: dict[str, float] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)

    def note(self, badness: float, name: str, *pictures: np.ndarray) -> None:
        if len(self.cases) >= WORST and badness <= min(case.badness for case in self.cases):
            return
        small = [
            cv2.resize(p, (384, 384 * p.shape[0] // p.shape[1]), interpolation=cv2.INTER_AREA)
            for p in pictures
        ]
        self.cases.append(Case(badness, name, np.hstack(small)))
        self.cases = nlargest(WORST, self.cases, key=lambda case: case.badness)

    def draw(self, folder: Path) -> None:
        rows = []
        for case in sorted(self.cases, key=lambda case: -case.badness):
            row = case.picture.copy()
            write_text(row, f"{case.name}  {case.badness:.3f}", (6, 16), 0.45)
            rows.append(row)
        if rows:
            wide = max(row.shape[1] for row in rows)
            rows = [np.pad(r, ((0, 4), (0, wide - r.shape[1]), (0, 0))) for r in rows]
            cv2.imwrite(str(folder / f"{self.name}_worst.png"), np.vstack(rows)[..., ::-1])


def tinted(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The picture, gray, with each person of alpha (N, H, W) in a colour of their own."""
    gray = np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, 2) * np.float32(0.35)
    for i, one in enumerate(alpha):
        gray += (0.5 * COLOURS[i % len(COLOURS)] + 0.25 * rgb) * one[..., None]
    return gray.clip(0, 255).astype(np.uint8)


def paired(alpha: np.ndarray, truth: np.ndarray) -> tuple[dict[int, int], np.ndarray]:
    """Row of alpha for each row of truth that has one, and the IoU of every pair."""
    overlap = overlap_matrix(alpha, truth, 0.5)
    rows, columns = match(overlap, 0.1)
    return dict(zip(columns.tolist(), rows.tolist(), strict=True)), overlap


@dataclass(slots=True)
class _Made:
    """What came of made scenes, looked at in one way."""

    errors: list[float] = field(default_factory=list)
    boxed: list[float] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)
    answers: list[np.ndarray] = field(default_factory=list)
    extra: int = 0

    def add(self, alpha: np.ndarray, truth: np.ndarray) -> float:
        """How bad it is."""
        got, overlap = paired(alpha, truth)
        mine = []
        for c, one in enumerate(truth):
            found = alpha[got[c]] if c in got else np.zeros_like(one)
            difference = np.abs(found - one)
            x, y, w, h = cv2.boundingRect((one > 0.02).astype(np.uint8))
            self.errors.append(1000 * float(difference.mean()))
            self.boxed.append(1000 * float(difference[y : y + h, x : x + w].mean()))
            mine.append(float(overlap[got[c], c]) if c in got else 0.0)
        self.overlaps += mine
        self.answers.append(alpha)
        self.extra += len(alpha) - len(got)
        return 1 - min(mine, default=1.0) + 0.3 * (len(alpha) - len(got))

    def found(self) -> dict[str, float]:
        return {
            "mean IoU, missed = 0": float(np.mean(self.overlaps)),
            "found at IoU 0.5": float(np.mean(np.array(self.overlaps) >= 0.5)),
            "extra people a picture": self.extra / max(1, len(self.answers)),
        }

    def figures(self, truths: list[np.ndarray], kind: str) -> dict[str, float]:
        shares = np.array([float(one.mean()) for truth in truths for one in truth])
        plain, overlaps = shares >= PLAIN, np.array(self.overlaps)
        pairs = zip(self.answers, truths, strict=True)
        return {
            f"MAD x 1000 over the picture{kind}": float(np.mean(self.errors)),
            f"MAD x 1000 over the person's box{kind}": float(np.mean(self.boxed)),
            f"IMQ (MAD){kind}": matting_quality(pairs).imq,
            **{f"{what}{kind}": value for what, value in self.found().items()},
            f"of those who fill {PLAIN:.0%} of the picture: MAD x 1000 over the box{kind}": float(
                np.mean(np.array(self.boxed)[plain])
            ),
            f"of those: mean IoU{kind}": float(np.mean(overlaps[plain])),
            f"of those: found at IoU 0.5{kind}": float(np.mean(overlaps[plain] >= 0.5)),
        }


def scenes(engine: Engine, settings: Settings, sources: material.Sources, count: int) -> Part:
    part = Part("scenes")
    closer = settings.engine.look_closer
    kinds = {AS_IT_IS: True, ONCE: False} if closer else {AS_IT_IS: False}
    made = {kind: _Made() for kind in kinds}
    truths = []
    for i in range(count):
        sample = render(random_scene(sources, SIZE, [SEED, i], photos=0.0))
        truth = sample.alpha.astype(np.float32) / 255
        truths.append(truth)
        for kind, closer in kinds.items():
            alpha = photographed(engine, sample.rgb, CONFIDENT, closer)
            worst = made[kind].add(alpha, truth)
            if kind == AS_IT_IS:
                part.note(worst, f"scene {i}", sample.rgb, tinted(sample.rgb, truth),
                          tinted(sample.rgb, alpha))  # fmt: skip
    for kind, told in made.items():
        part.figures |= told.figures(truths, kind)
    return part


def dim(
    engine: Engine, sources: material.Sources, count: int, folder: Path,
    empty: Iterable[np.ndarray],
) -> Part:  # fmt: skip
    part = Part("dim")
    made, shot, false, pictures = _Made(), [], 0, 0

    def lit(
        rgb: np.ndarray, people: np.ndarray | None, *which: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The picture in a light of its own, and who is found there."""
        rgb = BadLight(np.random.default_rng([SEED, *which])).on(rgb, people)
        return rgb, photographed(engine, rgb, CONFIDENT, False)

    for i in range(count):
        sample = render(random_scene(sources, SIZE, [SEED, i], photos=0.0))
        truth = sample.alpha.astype(np.float32) / 255
        rgb, alpha = lit(sample.rgb, sample.outline, i, 2)
        worst = made.add(alpha, truth)
        part.note(worst, f"scene {i}", rgb, tinted(rgb, truth), tinted(rgb, alpha))
    for i, (photograph, labels) in enumerate(labelled_photographs(folder, "penn_PennPed", 20)):
        rgb, true = read_photograph(photograph, labels)
        shot.append(photo_score(photograph.stem, lit(rgb, None, i, 3)[1], true))
    for i, picture in enumerate(empty):
        false += len(lit(picture, None, i, 4)[1])
        pictures += 1
    photos = photo_scores(shot)
    part.figures = {
        "made scenes: MAD x 1000 over the person's box": float(np.mean(made.boxed)),
        **{f"made scenes: {what}": value for what, value in made.found().items()},
        "photographs: mean IoU of people found": photos.mean_iou,
        "photographs: recall of people taller than a quarter": photos.recall,
        "false people per 100 pictures": 100 * false / max(1, pictures),
    }
    return part


def headless(engine: Engine, sources: material.Sources, count: int) -> Part:
    part, made = Part("headless"), _Made()
    for i in range(count):
        sample = render(random_scene(sources, SIZE, [SEED, 1, i], photos=0.0, headless=1.0))
        truth = sample.alpha.astype(np.float32) / 255
        alpha = photographed(engine, sample.rgb, CONFIDENT, False)
        worst = made.add(alpha, truth)
        part.note(worst, f"scene {i}", sample.rgb, tinted(sample.rgb, truth),
                  tinted(sample.rgb, alpha))  # fmt: skip
    part.figures = made.found()
    return part


class Forgetful:
    """An engine that is told nothing of the frames before."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.name = engine, engine.name

    def start(self) -> State:
        return self._engine.start()

    def step(self, rgb: np.ndarray, state: State) -> tuple[Mattes, State]:
        return self._engine.step(rgb, state)[0], state

    def close(self) -> None:
        """The engine is its owner's."""


def ways(engine: Engine, settings: Settings) -> dict[str, tuple[Engine, Settings]]:
    """The ways in which a video is matted: what differs between them is what they are worth."""
    people = settings.people
    kinds = {
        ALONE: (Forgetful(engine), replace(people, steady=0, calm=0.0)),
        AS_IT_IS: (engine, replace(people, steady=0)),
        STEADIED: (engine, replace(people, steady=STEADY)),
    }
    return {kind: (one, replace(settings, people=told)) for kind, (one, told) in kinds.items()}


def moving(engine: Engine, settings: Settings, sources: material.Sources, count: int) -> Part:
    part = Part("flicker")
    size = (SIZE[0] // 2, SIZE[1] // 2)
    values: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {}
    strays: dict[str, list[float]] = {}
    for i in range(count):
        clip = list(sequence(sources, size, [SEED, i, 1], frames=8, rate=15.0))
        stay = sorted(set.intersection(*(set(sample.ids) for sample in clip)))
        if not stay:
            continue
        truth = np.stack([_alphas_of(sample, stay) for sample in clip], 1)  # (N, T, H, W)
        for kind, (runs, wanted) in ways(engine, settings).items():
            alpha = np.stack(list(_films(runs, wanted, clip, truth)), 1)
            each = [dtssd(a, t) for a, t in zip(alpha, truth, strict=True)]
            values.setdefault(kind, []).extend(each)
            errors.setdefault(kind, []).extend(np.abs(alpha - truth).mean((1, 2, 3)).tolist())
            strays.setdefault(kind, []).extend(map(messddt, alpha, truth))
            if kind == AS_IT_IS:
                worst = int(np.argmax(each))
                a, t = alpha[worst], truth[worst]
                change = np.abs(np.diff(a, axis=0) - np.diff(t, axis=0))
                k = int(np.argmax(change.mean((1, 2))))
                wrong = (255 * change[k]).astype(np.uint8)[..., None].repeat(3, 2)
                rgb = clip[k + 1].rgb
                part.note(each[worst] / 100, f"clip {i} frame {k + 1} (answer, wrong change)",
                          rgb, tinted(rgb, a[k + 1][None]), wrong)  # fmt: skip
    told = {kind: float(np.mean(each)) for kind, each in values.items()}
    part.figures = {
        **{f"dtSSD{kind}": value for kind, value in told.items()},
        **{f"lower{kind} by, per cent": 100 * (1 - told[kind] / told[ALONE])
           for kind in (AS_IT_IS, STEADIED)},
        **{f"MESSDdt{kind}": float(np.mean(each)) for kind, each in strays.items()},
        **{f"MAD x 1000{kind}": 1000 * float(np.mean(each)) for kind, each in errors.items()},
    }  # fmt: skip
    return part


def _films(
    engine: Engine, settings: Settings, clip: Sequence[Sample], truth: np.ndarray
) -> Iterator[np.ndarray]:
    """For each frame of the clip the mattes (N, H, W) that match truth (N, T, H, W) best, as the
    program shows them; nothing for whoever is missed."""
    frames = (Frame(sample.rgb, i, Fraction(1, 15)) for i, sample in enumerate(clip))
    for i, (_, mattes) in enumerate(matted(frames, engine, None, settings)):
        alpha = np.zeros_like(truth[:, i])
        for person, row in paired(mattes.alpha, truth[:, i])[0].items():
            alpha[person] = mattes.alpha[row]
        yield alpha


def _alphas_of(sample: Sample, people: Sequence[int]) -> np.ndarray:
    """(N, H, W) float32: the true alpha of these people."""
    rows = [list(sample.ids).index(name) for name in people]
    return sample.alpha[rows].astype(np.float32) / 255


def photographs(engine: Engine, settings: Settings, folder: Path) -> Part:
    part = Part("photographs")
    made = []
    for photograph, labels in labelled_photographs(folder, "penn_PennPed", 20):
        rgb, true = read_photograph(photograph, labels)
        alpha = photographed(engine, rgb, CONFIDENT, settings.engine.look_closer)
        score = photo_score(photograph.stem, alpha, true)
        made.append(score)
        missing = score.true_people - len(score.found_iou)
        worse = 1 - float(np.mean(score.found_iou)) if score.found_iou else 1.0
        truth = tinted(rgb, true.astype(np.float32))
        part.note(missing + worse, photograph.stem, rgb, truth, tinted(rgb, alpha))
    scores = photo_scores(made)
    part.figures = {
        "mean IoU of people found": scores.mean_iou,
        "recall of people taller than a quarter": scores.recall,
        "precision (far people are not labelled)": scores.precision,
    }
    return part


def bedroom(engine: Engine, settings: Settings, path: Path) -> Part:
    part = Part("clip")
    files = label_files(path.with_name(path.stem + "_ids"))
    told: dict[str, tuple[ClipScores, float]] = {}
    for kind, (runs, wanted) in ways(engine, settings).items():
        compared = []
        still: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        total: list[float] = []
        films = followed(path, runs, wanted)
        for i, ((frame, mattes), labels_file) in enumerate(zip(films, files, strict=False)):
            labels = read_labels(labels_file, frame.size)
            seen = compare(labels, mattes)
            compared.append(seen)
            rows, columns = match(seen.similarity, 0.1)
            got = {int(seen.true_ids[r]): int(seen.predicted_ids[c])
                   for r, c in zip(rows, columns, strict=True)}  # fmt: skip
            row_of = {int(name): i for i, name in enumerate(mattes.ids)}
            for person in seen.true_ids.tolist():
                truth = (labels == person).astype(np.float32)
                mine = (mattes.alpha[row_of[got[person]]] if person in got
                        else np.zeros(frame.size, np.float32))  # fmt: skip
                mine = np.where(labels == 255, 0, mine)
                pairs = still.setdefault(person, [])
                pairs.append((mine, truth))
                if len(pairs) == 2:
                    total.append(dtssd(*(np.stack(film) for film in zip(*pairs, strict=True))))
                    pairs.pop(0)
            if kind == AS_IT_IS:
                best = [seen.similarity[r].max(initial=0) for r in range(len(seen.true_ids))]
                truth = np.stack([labels == p for p in seen.true_ids] or [labels == 1])
                part.note(1 - min(best, default=1.0), f"frame {i}", frame.rgb,
                          tinted(frame.rgb, truth.astype(np.float32)),
                          tinted(frame.rgb, mattes.alpha))  # fmt: skip
        told[kind] = clip_scores(compared), float(np.mean(total))
    scores, _ = told[AS_IT_IS]
    part.figures = {
        **{f"IoU of person {p.person}": p.iou for p in scores.people},
        "HOTA": scores.hota,
    }
    for kind, (each, flicker) in told.items():
        part.figures |= {
            f"mean IoU{kind}": each.mean_iou, f"worst person present{kind}": each.presence,
            f"identity switches{kind}": each.switches, f"IDF1{kind}": each.idf1,
            f"dtSSD{kind}": flicker,
        }  # fmt: skip
    return part


def webcams(engine: Engine, settings: Settings, files: Mapping[Path, int]) -> Part:
    part = Part("webcams")
    frames = covered = strangers = 0
    for path, people in files.items():
        for i, (frame, mattes) in enumerate(followed(path, engine, settings)):
            areas = sorted((mattes.alpha > 0.5).mean((1, 2)).tolist(), reverse=True)
            frames += 1
            covered += bool(areas and areas[0] > 0.05)
            strangers += len(areas) > people
            badness = 1.0 - (areas[0] > 0.05 if areas else 0) + sum(areas[people:])
            if badness > 0 and i % 5 == 0:  # neighbours look alike
                part.note(badness, f"{path.stem} frame {i}", frame.rgb,
                          tinted(frame.rgb, mattes.alpha))  # fmt: skip
    part.figures = {
        "frames with the person, per cent": 100 * covered / frames,
        "frames with a stranger, per cent": 100 * strangers / frames,
    }
    return part


def empty(engine: Engine, settings: Settings, pictures: Iterable[np.ndarray]) -> Part:
    part = Part("empty")
    found = count = 0
    for i, rgb in enumerate(pictures):
        alpha = photographed(engine, rgb, CONFIDENT, settings.engine.look_closer)
        count, found = count + 1, found + len(alpha)
        if len(alpha):
            part.note(float(alpha.mean((1, 2)).sum()), f"picture {i}", rgb, tinted(rgb, alpha))
    part.figures = {"false people per 100 pictures": 100 * found / max(1, count)}
    return part


def table(parts: Sequence[Part]) -> str:
    lines = ["| what | figure | |", "|---|---|---|"]
    for part in parts:
        for name, value in part.figures.items():
            lines.append(f"| {part.name} | {name} | {value:.3f} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None, *, load_engine: LoadEngine | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.evaluate", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    kinds = ("scenes", "dim", "headless", "flicker", "photographs", "clip", "webcams", "empty")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("out/eval"), metavar="DIR")
    parser.add_argument("--only", nargs="+", choices=kinds, default=kinds, help="some kinds only")
    parser.add_argument("--scenes", type=int, default=64, help="made scenes")
    parser.add_argument("--clips", type=int, default=24, help="made clips")
    add_options(parser)
    chosen = parser.parse_args(argv)

    def work() -> int:
        settings = settings_of(chosen)
        data = chosen.data
        held_out = material.load(data, held_out=True)

        @cache
        def nobody() -> Sequence[np.ndarray]:
            # read anew: made scenes keep every background, or older figures say nothing
            return material.load(data, held_out=True, labels=LABELS).backgrounds

        chosen.out.mkdir(parents=True, exist_ok=True)
        parts = []
        with closing(engine_of(settings, load_engine)) as engine:
            makers = {
                "scenes": lambda: scenes(engine, settings, held_out, chosen.scenes),
                "dim": lambda: dim(engine, held_out, chosen.scenes, data / "scenes", nobody()),
                "headless": lambda: headless(engine, held_out, chosen.scenes),
                "flicker": lambda: moving(engine, settings, held_out, chosen.clips),
                "photographs": lambda: photographs(engine, settings, data / "scenes"),
                "clip": lambda: bedroom(engine, settings, data / "clips" / "bedroom.mp4"),
                "webcams": lambda: webcams(
                    engine, settings,
                    {data / "clips" / f"{name}.mkv": people for name, people in WEBCAMS.items()},
                ),
                "empty": lambda: empty(engine, settings, nobody()),
            }
            for kind in kinds:
                if kind in chosen.only:
                    parts.append(makers[kind]())
                    parts[-1].draw(chosen.out)
                    print(f"{kind} done", file=sys.stderr, flush=True)
        figures = {part.name: part.figures for part in parts}
        told = {"machine": machine.described(), "figures": figures}
        (chosen.out / "results.json").write_text(json.dumps(told, indent=1))
        print(json.dumps(told) if chosen.json else table(parts))
        return 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
