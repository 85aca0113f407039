"""The history model: item-to-item ridge regression on what each user rated, in closed form.

Uses `models`. Begin with `model.HistoryModel`; `fit` has the algebra, `choice` and `recency` what is chosen.
"""
