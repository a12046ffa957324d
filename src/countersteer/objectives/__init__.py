"""Axis 3: what the learning signal is. Pure functions in the papers' notation."""
