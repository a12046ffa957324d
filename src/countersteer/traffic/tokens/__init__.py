"""Learned traffic: everybody's next half second is drawn from a vocabulary of motions."""
