"""A fuzz of everything that is read from disk: `make fuzz`, or `python -m fuzzing` with `tests` on the path."""
