"""The authors' checkpoint as weights of this network:

    python -m matting.network.published.convert swintiny.ckpt weights/published.safetensors

You bring the file; its authors allow non-commercial use only, and that goes with what is written.
Nothing in it is executed: it is read as tensors and nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path

import torch
from torch import Tensor

from matting.network.published.network import PublishedNetwork, Sizes, save

LICENCE = (
    "E2E-HIM weights by Liu et al. (arXiv 2403.01510): "
    "may be used and distributed for non-commercial purposes only"
)
# The beginning of the authors' name and of ours; what follows is alike but for `RULES`.
PREFIXES = (
    ("pre_conv.", "perception.stem."), ("res1.", "perception.stem2."),
    ("ds1.", "perception.stem4."), ("trans.patch_embed.proj.", "perception.swin.embed."),
    ("trans.patch_embed.norm.", "perception.swin.embed_norm."),
    ("trans.layers.", "perception.swin.layers."), ("trans.norm", "perception.swin.norms."),
    ("toplayer.", "perception.memory."), ("query_embed.weight", "perception.queries"),
    ("decoder1.layers.", "perception.layers."), ("decoder1.norm.0.", "perception.code_norm."),
    ("globalfcnum.layers.", "perception.exist."), ("c32m.", "perception.c32."),
    ("c16m.", "perception.c16."), ("c8m.", "perception.c8."),
    ("globalfc.layers.", "kernels.guide."), ("globalfck.layers.0.", "kernels.embed."),
    ("globalfc2.layers.", "kernels.matte."),
    ("c1t1.", "guidance.background.0."), ("c1t2.", "guidance.background.1."),
    ("otherwright1.0.", "guidance.otherwise.0."), ("otherwright2.0.", "guidance.otherwise.1."),
    ("g1.", "guidance.norms.0."), ("g2.", "guidance.norms.1."), ("c8d.", "guidance.united."),
    ("c8d2.", "instances.down16."), ("c16.", "instances.c16."), ("c16d.", "instances.down32."),
    ("c32.", "instances.c32."), ("pam.query_conv.", "instances.attend.query."),
    ("pam.key_conv.", "instances.attend.key."), ("pam.value_conv.", "instances.attend.value."),
    ("pam.gamma", "instances.attend.gamma"), ("c32b.", "instances.c32b."),
    ("c16u.", "instances.c16u."), ("c8.", "instances.c8."), ("c8d3.", "instances.trimap."),
    ("c4.", "instances.c4."), ("c2.", "instances.c2."),
    ("c1.0.", "alpha_head.first."), ("c1.2.", "alpha_head.second."),
)  # fmt: skip
STACKS = ("globalfc.layers.", "globalfc2.layers.", "globalfcnum.layers.")  # linear layers in a row
UNUSED = ("conv1.", "conv2.")  # in the file, and in no computation
COMPUTED = "relative_position_index"  # follows from the window's size; checked, not kept


class NotThisCheckpoint(ValueError):
    """The file is not the published checkpoint; the message says what differs."""


def ours(key: str) -> str | None:
    """Our name of the authors' tensor `key`; None for what is not kept.

    >>> ours("c16m.3.in_conv1.1.gn.weight")
    'perception.c16.3.body.1.weight'
    """
    if key.startswith(UNUSED) or key.endswith(COMPUTED):
        return None
    found = [pair for pair in PREFIXES if key.startswith(pair[0])]
    if not found:
        raise NotThisCheckpoint(f"unknown tensor {key!r}")
    ((theirs, mine),) = found  # no prefix is the beginning of another
    rest = key[len(theirs) :]
    rest = re.sub(r"in_conv1\.(\d)(?:\.gn)?\.", r"body.\1.", rest)  # a residual bottleneck
    rest = rest.replace("mlp.fc1.", "mlp.0.").replace("mlp.fc2.", "mlp.2.")
    if theirs in STACKS:
        number, _, name = rest.partition(".")
        rest = f"{2 * int(number)}.{name}"  # ours counts the ReLU between
    return mine + rest


def converted(state: dict[str, Tensor]) -> PublishedNetwork:
    """The network with the authors' weights.  Raises NotThisCheckpoint naming what differs."""
    queries = state.get("query_embed.weight")
    if queries is None or queries.ndim != 2 or queries.shape[1] != 256:
        raise NotThisCheckpoint("no query_embed.weight of width 256: not an E2E-HIM checkpoint")
    network = PublishedNetwork(Sizes(codes=len(queries)))
    wanted = network.state_dict()
    index = network.perception.swin.layers[0].blocks[0].attn.relative_position_index
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        name = ours(key)
        if name is not None:
            found[name] = value
        elif key.endswith(COMPUTED) and not torch.equal(value.long().cpu(), index):
            raise NotThisCheckpoint(f"{key} is not that of a window of {network.sizes.window}")
    for name in [*wanted, *found]:
        if name not in found or name not in wanted:
            where = "is missing in the file" if name in wanted else "is no part of this network"
            raise NotThisCheckpoint(f"{name} {where}")
        if found[name].shape != wanted[name].shape:
            raise NotThisCheckpoint(
                f"{name} is {tuple(found[name].shape)}, expected {tuple(wanted[name].shape)}"
            )
    network.load_state_dict({name: value.float() for name, value in found.items()})
    return network.eval()


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, however they were put in.  Never runs code from the file."""
    import pickle

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # what is no checkpoint can break a reader of them in any way
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            why = "holds more than tensors and could run its code; it was not run"
        else:
            why = f"is no checkpoint, or damaged ({type(error).__name__})"
        raise NotThisCheckpoint(f"{path} {why}") from None
    for name in ("state_dict", "model", "net", "network"):
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise NotThisCheckpoint(f"{path} holds no table of tensors")
    return {key.removeprefix("module."): value for key, value in state.items()}


def convert(source: Path, target: Path) -> int:
    """Write `target`; returns how many tensors the checkpoint held."""
    state = read(source)
    network = converted(state)
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    save(network, target, licence=LICENCE, source=source.name, source_sha256=digest)
    return len(state)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m matting.network.published.convert", description=__doc__.splitlines()[0][:-1]
    )
    parser.add_argument("checkpoint", type=Path, help="the authors' swintiny.ckpt")
    parser.add_argument("weights", type=Path, help="the .safetensors file to write")
    args = parser.parse_args()
    try:
        count = convert(args.checkpoint, args.weights)
    except (NotThisCheckpoint, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.weights}: {count} tensors read, {args.weights.stat().st_size / 1e6:.0f} MB")
    print(f"licence: {LICENCE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
