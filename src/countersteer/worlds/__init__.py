"""Axis 2: how the world answers. `interface` is the seam; each folder is one kind of world."""
