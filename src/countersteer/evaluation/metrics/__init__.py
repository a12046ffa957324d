"""Benchmark scores over a recorded drive, each with its evidence. What each is: docs/scores.md."""
