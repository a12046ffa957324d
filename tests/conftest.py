"""Shared by all tests: thread limits, where recorded data lies, how hypothesis searches."""

from __future__ import annotations

import os
from pathlib import Path

# One thread in each worker: `pytest -n 2` shares two cores, and sums over one thread are the same
# everywhere. The libraries read these when they are imported, so this stands before every import.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# Triton reads this when it is first imported, which PyTorch may do before the tests of its kernels.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import hypothesis  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

# Every shape and type annotation of the package is checked in every test.
jaxtyping.install_import_hook("countersteer", "typecheck.check")

# Seeds are explicit: the same examples on every machine. To look for new ones:
# pytest --hypothesis-profile explore
hypothesis.settings.register_profile("steady", deadline=None, max_examples=60, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("steady")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of recorded data beside the repository; tests that need it skip where it is absent."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"recorded data is not here: {folder}")
    return folder
