#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, from one place: bench/gpu.sh test | bench
#
# BIN is the folder of a Python that has torch for CUDA, pytest and this project's dependencies.
# Plans are compiled first, so that an engine that is installed and has none is a failure, not a skip.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${BIN:-.venv/bin}/python"

"$python" - <<'PY'
import sys
try:
    import torch
except ImportError:
    sys.exit("bench/gpu.sh: this Python has no torch; name one that has: BIN=/path/to/bin")
if not torch.cuda.is_available():
    sys.exit(f"bench/gpu.sh: torch {torch.__version__} sees no CUDA device here")
print("GPU:", torch.cuda.get_device_name())
PY

usable() { "$python" run_stream.py --engines | awk '$2 == "yes" {print $1}'; }
for engine in tensorrt tensorrt-rtx; do
    if usable | grep -qx "$engine"; then
        for precision in fp16 fp32; do
            "$python" -m engines.build --engine "$engine" --precision "$precision" --batch 8
        done
    fi
done
GPU_ENGINES="$(usable | grep -E '^(tensorrt|torch-)' | paste -sd,)"
export GPU_ENGINES REQUIRE_GPU=1
echo "engines on this GPU: $GPU_ENGINES; why not the others:"
"$python" run_stream.py --engines | awk '$2 == "no"'

case "${1:-}" in
    test) exec "$python" -m pytest -m gpu -q ;;
    bench) exec "$python" -m bench.gpu --engines "$GPU_ENGINES" ;;
    *) echo "usage: bench/gpu.sh test | bench" >&2; exit 2 ;;
esac
