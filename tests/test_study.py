"""The main job: what waits on the disk while others train, and in what order they begin."""

import dataclasses
from pathlib import Path

import numpy as np

from countersteer.evaluation.suites import lane_keeping, run_suite
from countersteer.recipes.closed_loop import blind, clone, on_policy, perturb
from countersteer.reporting import study
from countersteer.training.side_by_side import Run


def test_pictures_on_the_disk_are_those_that_were_driven(tmp_path: Path):
    suite = lane_keeping()
    driven = run_suite(dataclasses.replace(suite, cases=suite.cases[:2]), "expert", None, frames=True)
    laid = study._laid_down(driven, tmp_path / "pictures")
    assert laid.cases == driven.cases
    for before, after in zip(driven.records, laid.records, strict=True):
        assert isinstance(after.frames, np.memmap)
        assert before.frames is not None
        assert before.frames.any()
        np.testing.assert_array_equal(after.frames, before.frames)
        assert after.plan is before.plan
    assert len(list((tmp_path / "pictures").iterdir())) == 2


def test_the_longest_training_begins_first():
    """The policy drives and sees; the expert drives; nothing is seen."""
    work = [study._work(Run(recipe(), Path("x"), 0)) for recipe in (on_policy, perturb, clone, blind)]
    assert work[0] > work[1] == work[2] > work[3]
