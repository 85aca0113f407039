"""The sample: real films' public facts and simulated ratings, written in MovieLens's and TMDB's own formats.

Uses `base`. Begin with `writer.write_sample`.
"""
