"""Files to a validated `Dataset`: ratings, titles, people, rejects, splits, labels, downloads.

Uses `base`. Begin with `movielens.load`; `ratings.read_ratings` accounts for every line.
"""
