"""Marquee: train recommenders from ratings and titles, then recommend, in a few calls."""
