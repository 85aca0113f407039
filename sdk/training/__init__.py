"""A dataset to a bundle: the pipeline, the loop over batches, steps on CPU and GPU, checkpoints, the writing.

Uses everything down to `measure`. Begin with `pipeline.train_bundle`.
"""
