"""Marquee."""
