"""How good a bundle is: evaluation, slices, baselines, and the tables, charts and reports that say so.

Uses everything down to `bundles`. Begin with `evaluation.evaluate_bundle`.
"""
