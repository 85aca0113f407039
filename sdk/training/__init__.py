"""The training loop, its checkpoints, and the pipeline from ratings to a bundle."""
