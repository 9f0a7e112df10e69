"""python -m matting.training.average OUT A.safetensors=0.6 B.safetensors=0.4: one of several.

The weights of networks that were trained on from one another can be averaged, and the average often
answers better than any of them (Wortsman et al., "Model soups", ICML 2022).  What not all of them
have, such as a memory or an identity head, is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matting.network import live


def average(parts: Sequence[tuple[Path, float]], target: Path) -> None:
    """Write the average.  Raises ValueError where sizes differ or the shares are no shares."""
    total = sum(share for _, share in parts)
    if len(parts) < 2 or not total > 0 or any(share < 0 for _, share in parts):
        raise ValueError("expected two networks or more, with shares above 0")
    networks = [live.load(path)[0] for path, _ in parts]
    sizes = {replace(network.sizes, memory=False) for network in networks}
    if len(sizes) > 1:
        raise ValueError(f"the networks are of different sizes: {sizes}")
    memory = {network.sizes.memory for network in networks}
    mixed = live.LiveNetwork(networks[0].sizes if len(memory) == 1 else sizes.pop())
    states = [network.state_dict() for network in networks]
    kept = mixed.state_dict()
    for key, value in kept.items():
        if value.is_floating_point():
            shares = (share / total for _, share in parts)
            kept[key] = sum(s[key] * share for s, share in zip(states, shares, strict=True))
    mixed.load_state_dict(kept)
    made_of = ", ".join(f"{share / total:.2f} {path.stem}" for path, share in parts)
    live.save(mixed.eval(), target, average=made_of)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="+", metavar="WEIGHTS=SHARE")
    chosen = parser.parse_args(argv)
    try:
        parts = [(Path(path), float(share)) for path, share in
                 (part.rsplit("=", 1) for part in chosen.parts)]  # fmt: skip
        average(parts, chosen.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
