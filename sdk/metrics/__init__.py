"""Pure functions on arrays: of predictions (`pointwise`), of ranked lists (`lists`), and their `intervals`.

Uses `base`.
"""
