"""The content model: titles to words, words to weights, and the titles most like a title, with reasons.

Uses `models` and, for hybrid lists, `models.history`. Begin with `model.ContentModel`.
"""
