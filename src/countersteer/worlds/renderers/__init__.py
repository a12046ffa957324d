"""What is seen: renderers turn the state of a simulation into pictures."""
