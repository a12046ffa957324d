"""Sensors that are no cameras."""
