"""Poses, polylines, boxes and cameras. Conventions: docs/conventions.md."""
