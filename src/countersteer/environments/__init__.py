"""Worlds as Gymnasium and PettingZoo environments."""
