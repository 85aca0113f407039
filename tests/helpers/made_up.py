from __future__ import annotations

from pathlib import Path

import numpy as np

from sdk.base.config import DLRMConfig, HistoryConfig, NCFConfig, RunConfig, TrainingConfig

NUM_USERS, NUM_ITEMS = 40, 60
COLD_USER, BARE_ITEM = 999, 900
GENRES = ("Comedy", "Horror", "Drama", "Western")


def write_movielens(folder: Path) -> Path:
    """40 users with two tastes, 60 films; user 999 has rated one film, film 900 has no genre, year or word shared."""
    rng = np.random.default_rng(5)
    folder.mkdir()
    titles = [f"{i},Film {i} ({1960 + i}),{GENRES[i % 4]}" for i in range(1, NUM_ITEMS + 1)]
    (folder / "movies.csv").write_text(
        "\n".join(["movieId,title,genres", *titles, f"{BARE_ITEM},Qzx,(no genres listed)", ""])
    )
    rows = ["userId,movieId,rating,timestamp"]
    for user in range(1, NUM_USERS + 1):
        for item in sorted(rng.choice(NUM_ITEMS, 25, replace=False) + 1):
            liked = (item % 2 == user % 2) != (rng.random() < 0.15)
            rows.append(f"{user},{item},{4.5 if liked else 2.0},{1_000_000_000 + user * 100 + item}")
    rows.append(f"{COLD_USER},1,4.0,1000000001")
    (folder / "ratings.csv").write_text("\n".join([*rows, ""]))
    return folder


def tiny_config() -> RunConfig:
    """A small bundle in little time; its default ranker is the DLRM, since NCF has half its usual learning rate."""
    return RunConfig(
        dlrm=DLRMConfig(embedding_dim=4, bottom_mlp=(8,), top_mlp=(8, 4), dot_dim=4, num_members=2),
        ncf=NCFConfig(embedding_dim=4, num_members=1, l2_factors=(1.0,), rate_factor=1.0),
        training=TrainingConfig(max_epochs=3, batch_size=64, learning_rate=0.02),
        history=HistoryConfig(rank=8, penalty=20.0, feature_dim=8, ranker_weight=0.1),
    )
