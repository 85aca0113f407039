"""Train on the sample from Python, look at the metrics, and ask for recommendations.

python examples/train.py OUT
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import sdk
from sdk.shell.cli import path_argument


def main(out: Path) -> None:
    """Write a bundle to ``out`` and show what it knows."""
    with tempfile.TemporaryDirectory() as folder:
        movielens, tmdb = sdk.write_sample(Path(folder))  # or: sdk.download("ml-25m", Path("data"))
        dataset = sdk.load_movielens(movielens, tmdb=tmdb)
    bundle = sdk.train(dataset, sdk.RunConfig(), out)
    for row in bundle.info.metrics["test"]:
        print(f"{row['model']:22s} test AUC {row['auc']:.4f}")
    user = int(bundle.users.column("user_id")[0].as_py())
    ids, _ = bundle.recommend([user], k=5).row(0)
    print(f"for user {user}:", ", ".join(bundle.titles(ids)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=path_argument, default=Path("bundle"), help="the bundle's folder")
    main(parser.parse_args().out)
