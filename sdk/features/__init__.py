"""A dataset to encoded tables, one row per user and per title, and ratings as pairs of rows.

Uses `base`, `machine`, `data`. Begin with `encode.encode`; `tables.EncodedTable` is what comes out.
"""
