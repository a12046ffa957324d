"""Reprojection: a recorded drive, seen from where the car was not (comma.ai's reprojective simulator)."""
