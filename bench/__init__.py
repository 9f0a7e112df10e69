"""Measurements: what it costs and how good it is, each printed with machine, date and command."""

import os

for name in ("OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):  # as run_stream.py has them
    os.environ.setdefault(name, "1")
