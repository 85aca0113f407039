"""The worked example of a model of one's own: it learns, lowers to the pair form, and the engine ranks by it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from small import all_pairs, jitter, tables

import sdk
from sdk.features.interactions import TEST, TRAIN, VALIDATION
from sdk.features.seen import Seen
from sdk.measure.baselines import popularity_scores
from sdk.metrics.pointwise import auc
from sdk.scoring.engine import Engine

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "third_model.py"


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("third_model", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = load_example()


def test_it_is_as_short_as_is_said():
    assert len(EXAMPLE.read_text("utf-8").splitlines()) <= 61


def test_its_pair_form_gives_the_scores_of_its_forward_pass():
    model = jitter(example.TwoTower(*tables(2, 7, 6), dim=4, hidden=5))
    users, items = all_pairs(model.users.num_rows, model.items.num_rows)
    with torch.no_grad():
        expected = model(users, items).numpy()
    assert np.ptp(expected) > 0.1
    found = model.lower().score_pairs(users.numpy(), items.numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)  # two orders of summing


def test_the_engine_ranks_by_its_forward_pass():
    model = jitter(example.TwoTower(*tables(3, 7, 6), dim=4, hidden=5))
    with torch.no_grad():
        scores = model(*all_pairs(model.users.num_rows, model.items.num_rows)).numpy()
    scores = scores.reshape(model.users.num_rows, -1)
    rows = np.arange(3, len(scores))
    found = Engine(model.lower()).top_k(rows, Seen.nothing(len(rows)), 4)
    for row, listed, given in zip(rows, found.item_index, found.scores, strict=True):
        np.testing.assert_allclose(scores[row, listed], np.sort(scores[row, 3:])[::-1][:4], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(given, scores[row, listed], rtol=1e-4, atol=1e-5)


def test_on_the_sample_it_beats_popularity_and_lists_unseen_titles(tmp_path, capsys):
    dataset = sdk.load_movielens(sdk.write_sample(tmp_path, num_users=400)[0])
    bundle = sdk.train(dataset, sdk.RunConfig(models=("content",)), tmp_path / "bundle").measured
    example.main(bundle)
    measured, listed = capsys.readouterr().out.splitlines()
    rated, test = bundle.interactions.of(TRAIN, VALIDATION), bundle.interactions.of(TEST)
    popular = popularity_scores(rated.item_index, rated.label, len(bundle.encoded_items))[test.item_index]
    assert float(measured.split()[-1]) > auc(test.label, popular) + 0.05
    user, titles = listed.removeprefix("user ").split(": ")
    own = dataset.interactions.item_id[dataset.interactions.user_id == int(user)]
    known = set(bundle.titles(bundle.encoded_items.known_ids)) - set(bundle.titles(own))
    assert len(re.findall(r"\(\d{4}\)", titles)) == 5
    assert all(title in known for title in re.findall(r"(?:^|(?<=\), )).*?\(\d{4}\)", titles))
