"""Train from Python on your own tables, or on the sample, look at the metrics, and ask for recommendations.

python examples/train.py bundle                              # the sample: films
python examples/train.py bundle events.parquet products.csv  # interactions, and if you have them items and users
python examples/train.py bundle dataset.toml                 # as python -m sdk inspect described them
"""

import argparse
import tempfile
from pathlib import Path

import sdk
from sdk.shell.cli import path_argument


def read(tables: list[str]) -> sdk.Dataset:
    """The tables, or the sample where none are given."""
    if tables:
        return sdk.dataset(*tables)
    with tempfile.TemporaryDirectory() as folder:
        movielens, tmdb = sdk.write_sample(Path(folder))  # or: sdk.download("ml-25m", Path("data"))
        return sdk.load_movielens(movielens, tmdb=tmdb)


def main(out: Path, tables: list[str], models: str) -> None:
    """Write a bundle to ``out`` and show what it knows."""
    bundle = sdk.train(read(tables), sdk.RunConfig(models=tuple(models.split(","))), out)
    for row in bundle.info.metrics["test"]:
        print(f"{row['model']:22s} test AUC {row['auc']:.4f}")
    user = bundle.users.column("user_id")[0].as_py()
    ids, _ = bundle.recommend([user], k=5).row(0)
    print(f"for user {user}:", ", ".join(bundle.titles(ids)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=path_argument, default=Path("bundle"), help="the bundle's folder")
    parser.add_argument("tables", nargs="*", help="interactions, items, users; or a dataset.toml")
    parser.add_argument("--models", default="dlrm,ncf,bfm,history,content", help="history,content alone takes seconds")
    main(**vars(parser.parse_args()))
