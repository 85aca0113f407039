"""Ratings simulated over the sample's films: seeded tastes decide who watches what and how many stars they give.

A user's taste for a film is the sum of five parts: genres (drawn around a dozen kinds of film lover), themes
(keywords, with series among them), directors, a favourite time, and a few free latent dimensions that no fact about
the film reveals. Popular and fitting films are watched more; stars come from the film's quality, the user's leniency,
the taste and noise, on the half-star scale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from sdk.base.types import Bools, Float64s, Int64s, Interactions
from sdk.data.sample.films import GENRES, Film

Weights = Mapping[str, float]
_LOVERS: tuple[Weights, ...] = (
    {"Action": 1.6, "Adventure": 1.0, "Thriller": 0.6, "Drama": -0.7, "Romance": -1.0, "Musical": -1.0},
    {"Sci-Fi": 2.0, "Fantasy": 0.8, "Adventure": 0.7, "Romance": -0.7, "Western": -0.5, "Musical": -0.6},
    {"Horror": 2.2, "Thriller": 0.7, "Mystery": 0.5, "Children": -1.2, "Musical": -1.0, "Romance": -0.6},
    {"Children": 1.6, "Animation": 1.6, "Fantasy": 0.6, "Horror": -1.5, "Crime": -0.8, "War": -0.6},
    {"Romance": 1.9, "Comedy": 0.6, "Musical": 0.4, "Horror": -1.2, "Action": -0.6, "War": -0.5},
    {"Comedy": 1.9, "Animation": 0.3, "War": -0.6, "Drama": -0.6, "Horror": -0.3},
    {"Crime": 1.6, "Thriller": 1.0, "Mystery": 0.9, "Film-Noir": 0.9, "Children": -1.0, "Fantasy": -0.6},
    {"Drama": 1.4, "War": 0.9, "Romance": 0.3, "Action": -0.8, "Children": -0.7, "Horror": -0.7},
    {"Western": 2.2, "War": 1.1, "Action": 0.4, "Romance": -0.5, "Animation": -0.7, "Musical": -0.5},
    {"Musical": 2.2, "Romance": 0.6, "Animation": 0.5, "Horror": -1.0, "Action": -0.6},
    {"Film-Noir": 1.6, "Mystery": 1.2, "Drama": 0.5, "Animation": -0.6, "Sci-Fi": -0.6},
    {"Documentary": 2.2, "Drama": 0.6, "War": 0.5, "Fantasy": -0.8, "Horror": -0.5},
)
_TASTE_SHARES = MappingProxyType({"genres": 1.0, "themes": 0.25, "directors": 0.15, "time": 0.35, "latent": 0.12})
_QUALITY, _LENIENCY, _TASTE, _NOISE = 0.4, 0.4, 0.9, 0.75  # weights of a rating's parts
_MEAN_STARS, _STARS_PER_DEVIATION = 3.5, 1.0
_WHOLE_STAR_USERS = 0.4
_MEDIAN_RATINGS, _FEWEST, _MOST = 60, 20, 400
_SESSION, _SECONDS_PER_RATING, _DAY = 25, 40, 86_400
_FIRST_YEAR, _LAST_YEAR = 2015, 2023  # users join in these years
_LATENT_DIM = 4
_RENOWN = 0.6  # deviation of a film's own part of its log popularity
_OWN_TASTE = 0.12  # deviation of a user's genre weights from their mix of film lovers
_TAGGERS, _TAG_SHARE = 0.25, 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Tags:
    """Keywords that users added as tags.

    Attributes:
        row: (T,) int64, the tagged rating's row number, ascending.
        tag: one per row.
        timestamp: (T,) int64 seconds, shortly after the rating.
    """

    row: Int64s
    tag: tuple[str, ...]
    timestamp: Int64s


def simulate(films: Sequence[Film], seed: int, num_users: int) -> tuple[Interactions, Tags]:
    """Draw ratings and tags.

    Args:
        films: the catalogue, ascending by item_id, of two or more films.
        seed: 0 or more; the same seed gives the same ratings.
        num_users: users 1 to ``num_users``, each with 20 ratings or more where the catalogue has as many.

    Returns:
        Ratings ascending by user_id, then item_id, unique; and tags on some of them.
    """
    draws = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(7)]
    quality = _quality(films, draws[0])
    taste = _taste(films, num_users, draws[1])
    joined = draws[2].integers(_FIRST_YEAR, _LAST_YEAR + 1, num_users)
    watched = _watched(films, quality, taste, joined, draws[3])
    user, item = np.nonzero(watched)
    rating = _stars(user, quality[item], taste[watched], draws[4])
    timestamp = _timestamps(user, joined, draws[5])
    item_id = np.array([film.item_id for film in films], dtype=np.int64)[item]
    ratings = Interactions(user.astype(np.int64) + 1, item_id, rating.astype(np.float32), timestamp)
    return ratings, _tags([films[i] for i in item.tolist()], ratings, draws[6])


def _quality(films: Sequence[Film], rng: np.random.Generator) -> Float64s:
    """(I,) how good each film is for everyone: favourites are, later parts of a series a little less."""
    favourite = np.array([film.is_favourite for film in films])
    sequel = np.array(["sequel" in film.keywords for film in films])
    return _scaled(0.55 * rng.standard_normal(len(films)) + 1.3 * favourite - 0.4 * sequel)


def _taste(films: Sequence[Film], num_users: int, rng: np.random.Generator) -> Float64s:
    """(U, I) how well each film fits each user, mean 0 per user, deviation 1 overall."""
    parts = {
        "genres": _genre_weights(num_users, rng) @ _multi_hot([film.genres for film in films], 1, GENRES).T,
        "themes": _liking(_multi_hot([film.keywords for film in films], 3), num_users, rng),
        "directors": _liking(_multi_hot([film.directors for film in films], 3), num_users, rng),
        "time": _time_fit(films, num_users, rng),
        "latent": rng.standard_normal((num_users, _LATENT_DIM)) @ rng.standard_normal((_LATENT_DIM, len(films))),
    }
    centred = {name: part - part.mean(axis=1, keepdims=True) for name, part in parts.items()}
    return _scaled(sum((_TASTE_SHARES[name] * _scaled(part) for name, part in centred.items()), start=np.zeros(1)))


def _genre_weights(num_users: int, rng: np.random.Generator) -> Float64s:
    """(U, G) how much each user likes each genre: a mix of a few kinds of film lover, and something of their own."""
    kinds = np.array([[weights.get(genre, 0.0) for genre in GENRES] for weights in _LOVERS])
    mix = rng.dirichlet(np.full(len(_LOVERS), 0.15), num_users)
    return mix @ kinds + _OWN_TASTE * rng.standard_normal((num_users, len(GENRES)))


def _liking(attributes: Float64s, num_users: int, rng: np.random.Generator) -> Float64s:
    """(U, I) from attributes of which each user cares about one in eight."""
    weights = rng.standard_normal((num_users, attributes.shape[1]))
    return (weights * (rng.random(weights.shape) < 0.125)) @ attributes.T


def _time_fit(films: Sequence[Film], num_users: int, rng: np.random.Generator) -> Float64s:
    """(U, I) nearness of each film's year to the time that a user likes best."""
    year = np.array([film.year for film in films])
    best = rng.choice([1950.0, 1975.0, 1988.0, 1998.0, 2010.0], num_users, p=[0.1, 0.15, 0.25, 0.25, 0.25])
    away = (year - (best + 6.0 * rng.standard_normal(num_users))[:, None]) / 15.0
    return 1.0 / (1.0 + away * away)


def _multi_hot(lists: Sequence[Sequence[str]], least: int, names: Sequence[str] = ()) -> Float64s:
    """(I, F) which film has which attribute, rows of length 1; names of fewer than ``least`` films are left out."""
    counts = Counter(name for names_ in lists for name in names_)
    column = {name: f for f, name in enumerate(names or sorted(name for name, n in counts.items() if n >= least))}
    hot = np.zeros((len(lists), len(column)))
    for row, names_ in enumerate(lists):
        hot[row, [column[name] for name in names_ if name in column]] = 1.0
    return hot / np.sqrt(np.maximum(hot.sum(axis=1, keepdims=True), 1.0))


def _scaled(values: Float64s) -> Float64s:
    spread = values.std()
    return (values - values.mean()) / (spread if spread > 0 else 1.0)


def _watched(
    films: Sequence[Film], quality: Float64s, taste: Float64s, joined: Int64s, rng: np.random.Generator
) -> Bools:
    """(U, I) who watches what: a draw without replacement by popularity and taste (Gumbel top-k)."""
    year = np.array([film.year for film in films])
    favourite = np.array([film.is_favourite for film in films])
    renown = _RENOWN * rng.standard_normal(len(films)) + 0.3 * quality + 0.7 * favourite + (year - 1980) / 60.0
    appeal = renown + 0.8 * taste + rng.gumbel(size=taste.shape)
    released = year < joined[:, None]
    rank = np.argsort(np.argsort(np.where(released, -appeal, np.inf), axis=1, kind="stable"), axis=1)
    many = np.exp(np.log(_MEDIAN_RATINGS) + 0.75 * rng.standard_normal(len(taste)))
    return (rank < np.clip(many, _FEWEST, _MOST).astype(np.int64)[:, None]) & released


def _stars(user: Int64s, quality: Float64s, taste: Float64s, rng: np.random.Generator) -> Float64s:
    """(N,) 0.5 to 5.0 in half stars; some users give whole stars only."""
    leniency = rng.standard_normal(user.max() + 1)[user]
    liking = _QUALITY * quality + _LENIENCY * leniency + _TASTE * taste + _NOISE * rng.standard_normal(len(user))
    halves = 2.0 * (_MEAN_STARS + _STARS_PER_DEVIATION * _scaled(liking))
    step = np.where(rng.random(user.max() + 1) < _WHOLE_STAR_USERS, 2.0, 1.0)[user]
    return np.clip(np.floor(halves / step + 0.5) * step, step, 10.0) / 2.0


def _timestamps(user: Int64s, joined: Int64s, rng: np.random.Generator) -> Int64s:
    """(N,) seconds: each user rates in sessions of up to 25 films, days or weeks apart."""
    order = np.lexsort((rng.random(len(user)), user))
    place = np.empty(len(user), dtype=np.int64)
    place[order] = np.arange(len(user)) - np.searchsorted(user, user)  # 0, 1, 2 … within each user
    session = place // _SESSION
    days = rng.integers(1, 60, (len(joined), _MOST // _SESSION + 1)).cumsum(axis=1)
    new_year = (joined - 1970).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
    start = (new_year + rng.integers(0, 300, len(joined)))[:, None] + days
    clock = rng.integers(0, _DAY, start.shape)
    within = (place % _SESSION) * _SECONDS_PER_RATING + rng.integers(0, _SECONDS_PER_RATING, len(user))
    return np.asarray((start * _DAY + clock)[user, session] + within, dtype=np.int64)


def _tags(films: Sequence[Film], ratings: Interactions, rng: np.random.Generator) -> Tags:
    """Keywords that some users add to some of the films that they liked; ``films`` has one film per rating."""
    tagger = (rng.random(ratings.user_id.max() + 1) < _TAGGERS)[ratings.user_id]
    row = np.flatnonzero(tagger & (ratings.rating > 3) & (rng.random(len(ratings)) < _TAG_SHARE))
    which = rng.integers(0, 1 << 30, len(row))
    pairs = zip(row.tolist(), which.tolist(), strict=True)
    tag = tuple(films[r].keywords[w % len(films[r].keywords)] for r, w in pairs)
    return Tags(row, tag, ratings.timestamp[row] + rng.integers(5, 35, len(row)))
