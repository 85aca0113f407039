"""`python -m sdk tune`: search a model's settings on validation parts, in a study that can be gone on with.

Uses everything down to `training`. Begin with `search`.
"""
