"""python -m matting.training RECIPE: train, publish the best weights of a run, or score weights."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m matting.training", description=__doc__)
    parser.add_argument("recipe", type=Path, help="YAML, e.g. configs/train_live.yaml")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; default: cuda if there is one")
    parser.add_argument("--threads", type=int, help="CPU threads; default: all")
    parser.add_argument("--until", type=int, help="stop (resumable) after this many steps")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="do not train: put the run's best weights where the recipe says",
    )
    parser.add_argument(
        "--evaluate",
        type=Path,
        metavar="WEIGHTS",
        help="do not train: score these weights on the held-out pictures",
    )
    args = parser.parse_args()

    import torch

    from matting.network.published.network import NAME as PUBLISHED
    from matting.training import loop, published
    from matting.training.recipe import RecipeError, load, network_of

    try:
        if args.threads:
            torch.set_num_threads(args.threads)
        device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if network_of(args.recipe) == PUBLISHED:
            if args.evaluate or args.publish:
                raise RecipeError("weights of this network are measured by: -m matting.evaluate")
            published.train(published.read(args.recipe), device, args.until)
            return 0
        recipe = load(args.recipe)
        if args.evaluate:
            print(loop.evaluate(recipe, args.evaluate, device).told())
        elif args.publish:
            print(f"published {loop.publish(recipe, device)}")
        else:
            loop.train(recipe, device, args.until)
    except (RecipeError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except loop.Worse as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
