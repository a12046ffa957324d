"""Evaluation: suites with pass rules, statistics, reports."""
