"""Policies: from what a car knows to what it plans."""
