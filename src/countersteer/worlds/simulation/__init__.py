"""Boxworld: a batched, multi-agent world of boxes on painted ground, seen through cameras."""
