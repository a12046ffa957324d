"""Named experiments. A recipe is a function that returns one frozen tree."""
