"""Baselines of the field beside our models, on the same splits, each tuned on a validation part of its own."""
