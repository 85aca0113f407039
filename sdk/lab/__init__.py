"""Experiments: nothing that makes lists needs them."""
