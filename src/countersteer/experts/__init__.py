"""Experts: where labels come from."""
