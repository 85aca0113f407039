"""Every user against every title, exactly: the engine on CPU and GPU, and the lists that come of it.

Uses everything down to `models`. Begin with `recommender`, then `engine`; docs/memory.md draws what lies where.
"""
