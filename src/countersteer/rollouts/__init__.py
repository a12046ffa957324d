"""The loop that drives, and what driving leaves behind."""
