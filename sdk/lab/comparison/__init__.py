"""`python -m sdk compare`: the field's models beside ours, on three protocols, into one page.

Uses everything down to `training`. Begin with `run.compare`.
"""
