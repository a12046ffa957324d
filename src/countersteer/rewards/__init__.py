"""What one tick is worth to each car."""
