"""A trained system on disk, opened: its tables and models, and what is asked of it.

Uses everything down to `scoring`. Begin with `bundle.Bundle`.
"""
