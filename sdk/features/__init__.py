"""A dataset to encoded tables, one row per user and per title, and ratings as pairs of rows.

Uses `base` and `data`. Begin with `encode.fit_features`; `tables.EncodedTable` is what comes out.
"""
