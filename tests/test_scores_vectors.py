"""Every number that a score's reference gives is met."""

from __future__ import annotations

import pytest

from score_vectors import PAGE, Vector, rewritten, vectors

ALL = vectors()


@pytest.mark.parametrize("vector", ALL, ids=[f"{v.score}: {v.name}" for v in ALL])
def test_ours_equals_the_reference(vector: Vector):
    assert vector.matches, f"expected {vector.expected}, got {vector.ours}"


def test_a_wrong_number_would_be_noticed():
    assert not Vector("any", "off", "hand", 1.0, 1.0 + 2e-6).matches
    assert Vector("any", "rounded", "hand", 0.667, 2 / 3, 5e-4).matches


def test_the_page_says_what_the_vectors_and_the_parity_run_say():
    page = PAGE.read_text()
    assert rewritten(page) == page, "run `python tests/score_vectors.py`"
