"""Axis 1: who drives while data is made."""
