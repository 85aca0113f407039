"""Scoring a whole catalogue exactly, for any model that lowers to the pair form."""
