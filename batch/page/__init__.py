"""A night as a page that people look at.

Uses `checks` and below. Begin with `report_page`.
"""
