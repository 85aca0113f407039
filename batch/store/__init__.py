"""Nights on disk or in an object store: layout, journal, publishing in one rename, what is done to nights afterwards.

Uses `gates`. Begin with `layout`, then `target`.
"""
