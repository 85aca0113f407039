"""A server's answers beside the SDK's, on a sample of pairs, users and titles."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.calls import Lists, Protocol
from export.client import Client, ClientOptions
from export.errors import ParityError
from export.manifest import check_repository
from export.selfcheck import TOLERANCE, scored
from sdk.base.errors import BundleError
from sdk.base.ids import is_text
from sdk.base.types import Float32s, IdArray, TopK
from sdk.bundles.bundle import Bundle, load
from sdk.scoring.recommender import HISTORY

_UNKNOWN_NUMBERS, _UNKNOWN_TEXTS = (-1, 2**62), ("", "\N{REPLACEMENT CHARACTER} nobody's")


@dataclass(frozen=True, slots=True)
class Verified:
    """What was compared, and how far apart it was.

    Attributes:
        ranker: the model compared.
        pairs: pairs scored.
        largest_gap: largest difference of two scores of one pair, logits.
        users: users whose lists are the SDK's.
        titles: titles whose neighbours are the SDK's.
    """

    ranker: str
    pairs: int
    largest_gap: float
    users: int
    titles: int


def verify(
    repository: str | Path,
    bundle: str | Path,
    url: str,
    *,
    protocol: Protocol = "http",
    num_pairs: int = 2000,
    num_lists: int = 50,
    k: int = 20,
    seed: int = 0,
) -> Verified:
    """Compare a running server with the bundle that its repository was exported from.

    Args:
        repository: what is served; its files are checked against its manifest.
        bundle: the bundle.
        url: the server's ``host:port``.
        protocol: ``http`` or ``grpc``.
        num_pairs: pairs to score, two unknown users among them.
        num_lists: users and items whose lists are compared.
        k: list length.
        seed: of the sample.

    Raises:
        ParityError: a score or a list differs; names the first.
        BundleError: the repository or the bundle is damaged, or one is not from the other.
        ServerUnavailableError: the server does not answer.
    """
    facts, opened = check_repository(Path(repository)), load(bundle)
    if facts["bundle"]["data"] != dict(opened.info.data) or facts["bundle"]["created"] != opened.info.created:
        created = facts["bundle"]["created"]
        raise BundleError(f"{repository}: not exported from {bundle} (its bundle was created {created})")
    rng, ranker, titles = np.random.default_rng(seed), facts["ranker"], 0
    with Client(url, ClientOptions(protocol=protocol)) as client:
        gap = _compare_pairs(client, opened, ranker, num_pairs, rng)
        ids = _with_unknown(_some(opened.encoded_users.known_ids, num_lists, rng))
        name, rules = "best" if ranker == HISTORY else ranker, facts["options"].get("rules")
        lists = opened.recommend(ids, k, model=name, rules=json.loads(rules) if rules else None)
        users = _compare("recommend", "user", ids, client.recommend(ids, k), lists)
        if "similar_items" in facts["models"]:
            ids = _some(opened.encoded_items.known_ids, num_lists, rng)
            expected = opened.similar(ids, k, kind=facts["options"].get("kind", "content"))
            titles = _compare("similar_items", "item", ids, client.similar_items(ids, k), expected)
    return Verified(ranker, num_pairs, gap, users, titles)


def _some(ids: IdArray, count: int, rng: np.random.Generator) -> IdArray:
    return rng.choice(ids, min(count, len(ids)), replace=False)


def _with_unknown(users: IdArray) -> IdArray:
    return np.append(users, np.array(_UNKNOWN_TEXTS if is_text(users) else _UNKNOWN_NUMBERS, dtype=users.dtype))


def _compare_pairs(client: Client, bundle: Bundle, ranker: str, count: int, rng: np.random.Generator) -> float:
    users = rng.choice(_with_unknown(bundle.encoded_users.known_ids), count)
    items = rng.choice(bundle.encoded_items.known_ids, count)
    parts = [slice(start, start + 1000) for start in range(0, count, 1000)]
    served = np.concatenate([client.rank(users[part], items[part]) for part in parts])
    rows = bundle.encoded_users.index_of(users), bundle.encoded_items.index_of(items)
    expected = scored(bundle, ranker)[2](*rows)
    gap = np.abs(served - expected)
    if not gap.max() <= TOLERANCE:
        n = int(gap.argmax())
        raise ParityError(
            f"rank: user {users[n]}, item {items[n]}: the server says {served[n]:g}, the SDK {expected[n]:g} "
            f"({int((gap > TOLERANCE).sum())} of {count} pairs differ). Export again, or serve the right repository."
        )
    return float(gap.max())


def _compare(model: str, what: str, ids: IdArray, served: Lists, expected: TopK) -> int:
    """How many lists were compared.

    By the SDK's scores, every rank is worth what the SDK would put there: near-ties may swap, nothing else.
    """
    for b, asked in enumerate(ids):
        if not _is_same(served.row(b), expected.row(b)):
            raise ParityError(
                f"{model}: {what} {asked}: the server lists {served.row(b)[0][:5].tolist()} …, the SDK "
                f"{expected.row(b)[0][:5].tolist()} …. Export the bundle again, or serve its repository."
            )
    return len(ids)


def _is_same(served: tuple[IdArray, Float32s], expected: tuple[IdArray, Float32s]) -> bool:
    items = served[0].tolist()
    if len(items) != len(expected[0]) or len(set(items)) != len(items):
        return False
    if not np.allclose(served[1], expected[1], rtol=0, atol=TOLERANCE):
        return False
    worth = dict(zip(expected[0].tolist(), expected[1].tolist(), strict=True))
    last = float(expected[1][-1]) if items else 0.0  # a title that the SDK does not list may only tie with its last one
    swapped = [abs(worth.get(item, last) - score) for item, score in zip(items, served[1].tolist(), strict=True)]
    return items == expected[0].tolist() or max(swapped) <= TOLERANCE
