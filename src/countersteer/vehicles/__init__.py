"""Vehicles: plans and actions, what a car does with them, and the trackers between the two."""
