"""Poses made up: where arms and legs point, from things people do, with chance around them.

Directions are seen from the chest (arms) or the hips (legs), for the left side: x outward, y up,
z forward.  Two directions of a limb fix its turn fully: elbow and knee are hinges.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from matting.synthesis.humans.pose import PART, PARTS, Poser, between, nearer

# upper arm, forearm
ARMS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "hangs": ((0.2, -1, 0.0), (0.1, -1, 0.25)),
    "hangs behind": ((0.2, -1, -0.3), (-0.1, -1, 0.0)),
    "on hip": ((0.75, -0.65, -0.2), (-0.75, -0.5, 0.25)),
    "up": ((0.45, 0.9, 0.1), (0.05, 1, 0.15)),
    "behind head": ((0.85, 0.5, 0.1), (-0.7, 0.55, -0.25)),
    "waves": ((0.7, -0.15, 0.35), (0.2, 0.95, 0.3)),
    "out": ((1, 0.0, 0.1), (1, 0.05, 0.2)),
    "reaches": ((0.2, -0.1, 1), (0.0, 0.05, 1)),
    "phones": ((0.5, -0.75, 0.35), (-0.15, 0.9, 0.15)),
    "types": ((0.25, -0.85, 0.35), (-0.15, -0.1, 1)),
    "crossed": ((0.4, -0.85, 0.3), (-0.9, 0.05, 0.4)),
    "chin": ((0.2, -0.75, 0.6), (-0.2, 0.9, 0.1)),
    "lap": ((0.25, -0.9, 0.3), (-0.15, -0.45, 0.85)),
    "points": ((0.5, 0.1, 0.85), (0.4, 0.2, 0.9)),
    "cheers": ((0.75, 0.45, 0.2), (0.25, 0.95, 0.1)),
    "holds": ((0.3, -0.8, 0.45), (-0.35, 0.25, 0.9)),
}
# thigh, shin
LEGS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "stands": ((0.1, -1, 0.03), (0.08, -1, -0.08)),
    "wide": ((0.35, -1, 0.05), (0.25, -1, -0.08)),
    "steps": ((0.08, -1, 0.45), (0.08, -1, -0.05)),
    "trails": ((0.08, -1, -0.25), (0.08, -0.9, -0.5)),
    "lifted": ((0.15, -0.35, 0.9), (0.1, -1, -0.1)),
    "sits": ((0.18, -0.12, 1), (0.1, -1, 0.05)),
    "sits far": ((0.15, -0.1, 1), (0.1, -0.75, 0.65)),
    "crosslegged": ((0.75, -0.12, 0.6), (-0.9, -0.3, -0.1)),
    "squats": ((0.4, 0.1, 0.9), (0.1, -0.9, -0.45)),
    "kneels": ((0.12, -1, 0.12), (0.08, -0.1, -1)),
    "stretched": ((0.12, -0.05, 1), (0.1, -0.1, 1)),
}
# what both legs do together, with its chance, and the arms that go with it
STANCES: dict[str, tuple[float, tuple[str, str]]] = {
    "stand": (0.34, ("stands", "stands")),
    "walk": (0.14, ("steps", "trails")),
    "wide": (0.08, ("wide", "wide")),
    "lift": (0.06, ("lifted", "stands")),
    "sit": (0.16, ("sits", "sits")),
    "sit far": (0.05, ("sits far", "sits")),
    "floor": (0.05, ("crosslegged", "crosslegged")),
    "stretch": (0.03, ("stretched", "stretched")),
    "squat": (0.05, ("squats", "squats")),
    "kneel": (0.04, ("kneels", "kneels")),
}
SITTING = ("sit", "sit far", "floor", "stretch")
DESK = ("types", "chin", "phones", "lap", "crossed", "waves", "holds", "hangs", "behind head")


def _axes(along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """(3, 3) columns: along, across made square to it, and the third."""
    first = along / np.linalg.norm(along)
    second = across - first * (across @ first)
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)], 1)


def limb(
    rest: tuple[np.ndarray, np.ndarray], hinge: np.ndarray, wanted: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Turns of upper and lower part that take their rest directions to the wanted ones and keep
    the hinge between them a hinge."""
    axis = np.cross(wanted[0], wanted[1])
    straight = between(rest[0], wanted[0]) @ hinge
    share = np.clip((np.linalg.norm(axis) - 0.1) / 0.3, 0, 1)  # a straight limb has no plane
    axis = axis / max(float(np.linalg.norm(axis)), 1e-6) * share + straight * (1 - share)
    upper = _axes(wanted[0], axis) @ _axes(rest[0], hinge).T
    lower = _axes(wanted[1], axis) @ _axes(rest[1], hinge).T
    return upper, lower


def gesture(
    poser: Poser, rng: np.random.Generator, stance: str | None = None,
    arms: tuple[str, str] | None = None, looseness: float = 1.0,
) -> np.ndarray:  # fmt: skip
    """(18, 3, 3): turns of the parts of someone doing something."""
    if stance is None:
        chances = np.float64([chance for chance, _ in STANCES.values()])
        stance = str(rng.choice(list(STANCES), p=chances / chances.sum()))
    legs = STANCES[stance][1]
    if rng.random() < 0.5:
        legs = legs[::-1]
    if arms is None:
        choice = DESK if stance in SITTING and rng.random() < 0.7 else tuple(ARMS)
        weights = np.float64([3 if a == "hangs" else 1 for a in choice])
        one = str(rng.choice(choice, p=weights / weights.sum()))
        other = one if rng.random() < 0.45 else str(rng.choice(choice, p=weights / weights.sum()))
        arms = (one, other)

    def small(spread: tuple[float, float, float]) -> np.ndarray:
        return Rotation.from_rotvec(rng.normal(0, np.float64(spread) * looseness)).as_matrix()

    turns: dict[str, np.ndarray] = {"hips": small((0.06, 0.2, 0.05))}
    turns["chest"] = turns["hips"] @ small((0.13, 0.22, 0.09))
    if stance == "squat":
        turns["chest"] = turns["chest"] @ Rotation.from_euler("x", 0.35).as_matrix()
    head = turns["chest"] @ small((0.18, 0.4, 0.12))
    turns["neck"], turns["head"] = nearer(turns["chest"], head, 0.5), head
    for number, side in enumerate("lr"):
        mirror = np.float64([1 if side == "l" else -1, 1, 1])

        def towards(
            table: dict, name: str, frame: np.ndarray, noise: float, mirror: np.ndarray = mirror
        ) -> tuple[np.ndarray, np.ndarray]:
            found = []
            for direction in table[name]:
                way = np.float64(direction) / np.linalg.norm(direction)
                way = way + rng.normal(0, noise * looseness, 3)
                found.append(frame @ (way / np.linalg.norm(way) * mirror))
            return found[0], found[1]

        rest = [poser.direction(f"{side} {p}") for p in ("upper arm", "forearm", "thigh", "shin")]
        wanted = towards(ARMS, arms[number], turns["chest"], 0.14)
        upper, lower = limb((rest[0], rest[1]), np.cross(rest[0], rest[1]), wanted)
        turns[f"{side} upper arm"], turns[f"{side} forearm"] = upper, lower
        turns[f"{side} collar"] = nearer(turns["chest"], upper, 0.13)
        turns[f"{side} hand"] = lower @ small((0.15, 0.15, 0.3))
        quiet = 0.05 if stance in ("stand", "wide") else 0.1
        wanted = towards(LEGS, legs[number], turns["hips"], quiet)
        thigh, shin = limb((rest[2], rest[3]), np.float64([1, 0, 0]), wanted)
        turns[f"{side} thigh"], turns[f"{side} shin"] = thigh, shin
        turns[f"{side} foot"] = shin
        if stance not in ("kneel", "floor", "stretch"):
            flat = Rotation.from_euler("y", rng.normal(0.15, 0.15) * mirror[0]).as_matrix()
            turns[f"{side} foot"] = nearer(shin, turns["hips"] @ flat, 0.75)
    return np.stack([turns[part] for part in PARTS])


def hands(rng: np.random.Generator) -> np.ndarray:
    """(2, 5) radians per finger joint: relaxed, open, or a fist."""
    curl = np.empty((2, 5))
    for side in range(2):
        kind = rng.random()
        base = rng.uniform(0.1, 0.5) if kind < 0.7 else rng.uniform(-0.05, 0.12)
        if kind > 0.88:
            base = rng.uniform(0.9, 1.3)
        curl[side] = base + rng.normal(0, 0.08, 5)
        curl[side, 0] = base * 0.4
    return curl


__all__ = ["ARMS", "LEGS", "PART", "SITTING", "STANCES", "gesture", "hands", "limb"]
