"""What every test has in common: one thread for each process that computes."""

from __future__ import annotations

import os

# Before torch is imported, and for all child processes. Tensors of tests are tiny: more threads only
# wait for one another, and spin while they do.
os.environ.setdefault("OMP_NUM_THREADS", "1")
