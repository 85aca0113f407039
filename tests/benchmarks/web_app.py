"""How long the web app takes per page at MovieLens 25M's 59,047 titles: p50 and p95 of many different requests.

python tests/benchmarks/web_app.py --work DIR

It writes a made-up catalogue with ratings, trains the history and the content model on it, scores a night, and asks
for each page by Flask's test client (the app alone) and over HTTP from waitress (as a reader meets it, one request at
a time). Every request asks for another title, user or word. DIR is kept, so that a second run measures at once.
"""

from __future__ import annotations

import argparse
import http.client
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sdk.machine.blas import machine

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "examples" / "web_app"), str(ROOT)]

NIGHTS = ("2026-11-22", "2026-11-23")
NUM_TITLES, NUM_USERS, RATINGS_EACH, RATED_TITLES = 59_047, 10_000, 20, 6_000
GENRES = ("Action", "Comedy", "Crime", "Drama", "Horror", "Musical", "Romance", "Sci-Fi", "Thriller", "Western")
SYLLABLES = [first + vowel + last for first in "bcdfgklmnpqrstvz" for vowel in "aeiou" for last in ("", "n", "r")]


def words(rng: np.random.Generator, count: int) -> list[str]:
    """Made-up words of one to four syllables."""
    return ["".join(rng.choice(SYLLABLES, rng.integers(1, 5))) for _ in range(count)]


def write_movielens(folder: Path) -> Path:
    """59,047 titles of one to six words, some words in many of them, and 200,000 ratings of 6,000 of them."""
    rng = np.random.default_rng(11)
    vocabulary = np.array(words(rng, 20_000))
    folder.mkdir(parents=True)
    lines = ["movieId,title,genres"]
    for item in range(1, NUM_TITLES + 1):
        picked = vocabulary[(rng.power(0.35, rng.integers(1, 7)) * len(vocabulary)).astype(int)]
        genres = "|".join(sorted(set(rng.choice(GENRES, rng.integers(1, 4)))))
        lines.append(f"{item},{' '.join(picked).title()} ({rng.integers(1930, 2025)}),{genres}")
    (folder / "movies.csv").write_text("\n".join([*lines, ""]))
    rows = ["userId,movieId,rating,timestamp"]
    for user in range(1, NUM_USERS + 1):
        rated = np.unique((rng.power(0.4, RATINGS_EACH) * RATED_TITLES).astype(int)) * 9 + 1
        stars = rng.integers(1, 11, len(rated)) / 2
        rows += [f"{user},{item},{star},{10**9 + user}" for item, star in zip(rated, stars, strict=True)]
    (folder / "ratings.csv").write_text("\n".join([*rows, ""]))
    return folder


def prepare(work: Path) -> None:
    """Train and score, unless that is done."""
    import sdk
    from batch.job.job import Job
    from batch.run.night import run
    from sdk.base.config import HistoryConfig, RunConfig

    if not (work / "bundle").exists():
        dataset = sdk.load_movielens(write_movielens(work / "ml-made-up"))
        history = HistoryConfig(penalty=400.0, max_titles=2_000)
        sdk.train(dataset, RunConfig(models=("history", "content"), history=history), work / "bundle")
    for date in (date for date in NIGHTS if not (work / "nightly" / f"run_date={date}").exists()):
        run(Job(bundle=work / "bundle", out=work / "nightly", run_date=date, k=100))


def requests_of(count: int, names: Sequence[str]) -> dict[str, list[str]]:
    """Page -> addresses; queries are starts of titles, of any length, and misspelt titles."""
    rng = np.random.default_rng(3)
    titles, users = rng.integers(1, NUM_TITLES + 1, count), rng.integers(1, NUM_USERS + 1, count)
    typed = [name[: rng.integers(1, len(name) - 6)].replace(" ", "+") for name in rng.choice(names, count)]
    swapped = [_misspelt(rng, name[:-7]).replace(" ", "+") for name in rng.choice(names, count)]
    liked = rng.integers(0, RATED_TITLES, (count, 5)) * 9 + 1
    return {
        "suggestions, start of a title": [f"/suggest?q={text}" for text in typed],
        "suggestions, misspelt title": [f"/suggest?q={text}" for text in swapped],
        "search page": [f"/?q={text}" for text in swapped],
        "title page": [f"/titles/{item}" for item in titles],
        "user page": [f"/users/{user}" for user in users],
        "user page, dials turned": [f"/users/{user}?variety=1&popularity=-1" for user in users],
        "two nights compared": [f"/changes?user={user}" for user in users],
        "visitor page, 5 liked": ["/visitor?" + "&".join(f"like={item}" for item in row) for row in liked],
        "night page": [f"/nights/{NIGHTS[-1]}"] * count,
        "nights": ["/nights"] * count,
    }


def _misspelt(rng: np.random.Generator, name: str) -> str:
    at = int(rng.integers(0, max(1, len(name) - 1)))
    return name[:at] + name[at : at + 2][::-1] + name[at + 2 :]


def timed(ask: Callable[[str], int], addresses: Sequence[str]) -> np.ndarray:
    """(N,) milliseconds of each request; every answer must be a page."""
    taken = []
    for address in addresses:
        start = time.perf_counter()
        status = ask(address)
        taken.append((time.perf_counter() - start) * 1000)
        assert status == 200, f"{address}: {status}"
    return np.array(taken)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200, help="requests of each page (default: 200)")
    args = parser.parse_args()
    print(machine(), flush=True)
    prepare(args.work)

    import waitress
    from app import build_parser, site_of
    from pages import create_app

    start = time.perf_counter()
    site = site_of(build_parser().parse_args(["--bundle", f"{args.work}/bundle", "--nightly", f"{args.work}/nightly"]))
    print(f"ready after {time.perf_counter() - start:.1f} s")
    app = create_app(site)
    client = app.test_client()
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    server = waitress.create_server(app, host="127.0.0.1", port=0, ident=None)
    threading.Thread(target=server.run, daemon=True).start()
    connection = http.client.HTTPConnection("127.0.0.1", server.effective_port)

    def over_http(address: str) -> int:
        connection.request("GET", address)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    names = [site.catalogue.title(item).name for item in range(1, NUM_TITLES + 1)]
    print(f"| {'milliseconds':30} | app p50 | app p95 | HTTP p50 | HTTP p95 |\n|---|---:|---:|---:|---:|")
    for page, addresses in requests_of(args.count, names).items():
        half = len(addresses) // 2
        alone = timed(lambda address: client.get(address).status_code, addresses[:half])
        http_ms = timed(over_http, addresses[half:])
        figures = [*np.percentile(alone, [50, 95]), *np.percentile(http_ms, [50, 95])]
        print(f"| {page:30} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |", flush=True)


if __name__ == "__main__":
    main()
