"""Worlds that others made, behind our interface."""
