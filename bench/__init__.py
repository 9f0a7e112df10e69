"""Measurements: what it costs and how good it is, each printed with machine, date and command."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as run_stream.py does, before NumPy comes
