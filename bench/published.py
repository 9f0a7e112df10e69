"""How much the published network gains by what it is written with here:

    python -m bench.published [--size 640] [--people 5] [--rounds 3]

Side by side in one process, in turns: the straightforward version (`loops`: a convolution a code,
semantics as full-size maps, every code's trimap and alpha at full size) against the shipped one
(batched products, 1x1 norms, the alpha head's linear pair fused, full size for people who are
there), and the latter exported and compiled by OpenVINO in float32.  Random weights: speed does not
depend on them.  Their results are compared before they are timed.  Counted is processor time, which
a busy machine stretches less than the clock.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.machine import printed
from matting.network.published.network import PublishedNetwork, Sizes, composed
from matting.network.published.parts import up


class Looped(NamedTuple):
    existence: Tensor  # (B, N, 2)
    trimap: Tensor  # (B, N, 3, H, W) logits at full size
    alpha: Tensor  # (B, N, H, W) before the clamp


@torch.no_grad()
def loops(network: PublishedNetwork, image: Tensor) -> Looped:
    """The network with every code looked at in turn, as the paper's text reads."""
    seen = network.perception(image)
    kernels = network.kernels(seen.codes, seen.existence)
    codes = network.sizes.codes
    trimaps, alphas = [], []
    for row in range(len(image)):
        guide = network.guidance
        context = seen.context[row : row + 1]

        def look(kernel: Tensor, at: Tensor) -> Tensor:
            return F.conv2d(at, kernel[None, :-1, None, None], kernel[-1:])

        location = torch.cat([look(kernels.guide[row, n, 2], context) for n in range(codes)], 1)
        heads = []
        for head in range(2):
            maps = [look(kernels.guide[row, n, head], context) for n in range(codes)]
            share = torch.cat([*maps, guide.background[head](context)], 1).softmax(1)
            mixed = share[:, -1:] * guide.norms[head](guide.otherwise[head](context))
            for n in range(codes):
                everywhere = kernels.embeddings[row, n, head, :, None, None]
                everywhere = everywhere.expand(-1, *context.shape[2:])[None]
                mixed = mixed + share[:, n : n + 1] * guide.norms[head](everywhere)
            heads.append(mixed)
        united = guide.united(torch.cat([*heads, context, location.sigmoid()], 1))
        alone = type(seen)(*(field[row : row + 1] for field in seen))
        decoded = network.instances(united, alone)
        head = network.alpha_head
        features = head.second(head.first(torch.cat([decoded.fine, image[row : row + 1]], 1)))
        tri, alpha = [], []
        for n in range(codes):
            three = [look(kernels.trimap[row, n, k], decoded.trimap) for k in range(3)]
            tri.append(up(torch.cat(three, 1), 8)[0])
            alpha.append(look(kernels.alpha[row, n, 0], features)[0, 0])
        trimaps.append(torch.stack(tri))
        alphas.append(torch.stack(alpha))
    return Looped(seen.existence, torch.stack(trimaps), torch.stack(alphas))


def likeliest(existence: Tensor, people: int) -> Tensor:
    """(people,): the codes that are most likely someone, of existence (1, N, 2) logits."""
    return existence[0].softmax(-1)[:, 1].topk(people).indices


def looped_mattes(network: PublishedNetwork, image: Tensor, people: int) -> Tensor:
    made = loops(network, image)
    kind = made.trimap[0].argmax(1)
    every = torch.where(kind == 1, made.alpha[0].clamp(0, 1), (kind == 2).float())
    return every[likeliest(made.existence, people)]


@torch.no_grad()
def shipped_mattes(network: PublishedNetwork, image: Tensor, people: int) -> Tensor:
    made = network(image)
    rows = likeliest(made.existence, people)
    alpha = network.alpha_head.fused(made.fine[0], image[0], made.kernels[0, rows, 0])
    return composed(made.trimap[0, rows], alpha)


def compiled(
    network: PublishedNetwork, size: int, people: int, threads: int
) -> Callable[[Tensor], Tensor]:
    """The exported network, ready to run: a picture (1, 3, size, size) to mattes of `people`."""
    import openvino

    from matting.network.published.export import export

    with TemporaryDirectory() as folder:
        file = Path(folder) / "published.onnx"
        export(network, file, people=people, size=(size, size), batch=1)
        core = openvino.Core()
        wanted = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        request = core.compile_model(core.read_model(file), "CPU", wanted).create_infer_request()

    def run(image: Tensor) -> Tensor:
        made = request.infer({"image": image.numpy()})
        return composed(torch.from_numpy(made["trimap"][0]), torch.from_numpy(made["alpha"][0]))

    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=640, help="side of the picture, pixels")
    parser.add_argument("--people", type=int, default=5, help="codes that are someone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    network = PublishedNetwork(Sizes()).eval()
    image = torch.randn(1, 3, args.size, args.size)
    exported = compiled(network, args.size, args.people, args.threads)
    versions: dict[str, Callable[[], Tensor]] = {
        "loops": lambda: looped_mattes(network, image, args.people),
        "shipped": lambda: shipped_mattes(network, image, args.people),
        "exported": lambda: exported(image),
    }
    first, *others = (run() for run in versions.values())
    for name, other in zip(list(versions)[1:], others, strict=True):
        differ = (first - other).abs()
        # where two classes of a trimap tie, rounding decides: such pixels are few
        if float((differ > 1e-3).float().mean()) > 1e-4:
            print(f"loops and {name} do not agree (worst {float(differ.max()):.2g}); not timed")
            return 1
    work: dict[str, list[float]] = {name: [] for name in versions}
    for _ in range(args.rounds):
        for name, run in versions.items():
            began = time.process_time()
            run()
            work[name].append((time.process_time() - began) * 1000)
    print(printed())
    print(f"picture    {args.size} x {args.size}, {args.people} people of {network.sizes.codes}")
    for name, spent in work.items():
        share = median(spent) / median(work["loops"])
        print(f"{name:10} {median(spent):8.0f} CPU-ms   {share:.2f} of the loops'")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
