"""A variational autoencoder with multinomial likelihood, as a peer that makes lists.

Liang et al. 2018, "Variational autoencoders for collaborative filtering" (arXiv:1802.05814), sections 2.2 and 2.3: a
user's history, normalised and with half of its entries dropped, goes through a hidden layer to a latent Gaussian and
back to a distribution over the items. The divergence from the prior weighs ``most_beta`` after a fifth of the steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sdk.lab.comparison.list_peers import RatingMatrix, Scorer, Scores

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from sdk.base.types import Int64s

_DROPPED = 0.5
_AT_ONCE = 100
_ANNEALED = 5  # in one of so many parts of the steps


class _Autoencoder(nn.Module):
    def __init__(self, num_items: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.into, self.middle = nn.Linear(num_items, hidden), nn.Linear(hidden, 2 * latent)
        self.back, self.out = nn.Linear(latent, hidden), nn.Linear(hidden, num_items)

    def encoded(self, history: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, latent) means and log variances of (B, I) histories."""
        given = functional.dropout(functional.normalize(history), _DROPPED, self.training)
        mean, log_variance = self.middle(torch.tanh(self.into(given))).chunk(2, dim=1)
        return mean, log_variance

    def decoded(self, latent: torch.Tensor) -> torch.Tensor:
        """(B, I) logits."""
        logits: torch.Tensor = self.out(torch.tanh(self.back(latent)))
        return logits

    def loss(self, history: torch.Tensor, beta: float) -> torch.Tensor:
        """The negative evidence lower bound, the divergence weighed by ``beta``; a mean over users."""
        mean, log_variance = self.encoded(history)
        drawn = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        likelihood = (history * functional.log_softmax(self.decoded(drawn), dim=1)).sum(dim=1)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
        return (beta * divergence - likelihood).mean()


def variational_autoencoder(
    ratings: RatingMatrix,
    *,
    hidden: int,
    latent: int,
    num_epochs: int,
    most_beta: float,
    watched: float = 0.0,
    counted: bool = False,
    learning_rate: float = 1e-3,
) -> Scorer:
    """Train it on the histories of a rating matrix, by Adam; the same figures on every run.

    Args:
        ratings: the training part.
        hidden: width of the hidden layers.
        latent: width of the latent Gaussian.
        num_epochs: passes over the users.
        most_beta: weight of the divergence from the prior, at the end of its rise from 0.
        watched: as in ``RatingMatrix.weighted``.
        counted: likewise.
        learning_rate: Adam's.

    Returns:
        (B,) user rows to (B, I) float32 logits of the latent mean.
    """
    history = ratings.weighted(watched, counted)[:, ratings.known].tocsr()
    users = np.flatnonzero(np.diff(history.indptr))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _Autoencoder(history.shape[1], hidden, latent)
        optimiser = torch.optim.Adam(model.parameters(), learning_rate)
        orders = np.random.default_rng(0)
        steps = num_epochs * -(-len(users) // _AT_ONCE)
        done = 0
        for _ in range(num_epochs):
            order = orders.permutation(users)
            for start in range(0, len(order), _AT_ONCE):
                beta = min(most_beta, most_beta * _ANNEALED * done / steps)
                optimiser.zero_grad()
                model.loss(_dense(history[order[start : start + _AT_ONCE]]), beta).backward()
                optimiser.step()
                done += 1
    model.eval()

    def scores(rows: Int64s) -> Scores:
        with torch.inference_mode():
            found = model.decoded(model.encoded(_dense(history[rows]))[0]).numpy()
        known = np.diff(history[rows].indptr) > 0
        return ratings.scattered(np.where(known[:, None], found, np.float32(0)))

    return scores


def _dense(rows: csr_matrix) -> torch.Tensor:
    return torch.from_numpy(rows.toarray())
