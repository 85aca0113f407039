"""Reasons: each score comes apart exactly, and whoever has no reason to be given is told so."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from small import dataset, run_config

from sdk.__main__ import main
from sdk.base.config import FeatureConfig, HistoryConfig
from sdk.base.description import Description
from sdk.base.errors import UnknownItemError, UsageError
from sdk.bundles.bundle import load
from sdk.bundles.words import words_of
from sdk.models.content.hybrid import LikedShare
from sdk.training.pipeline import train_bundle

DATA = dataset()
HISTORY = HistoryConfig(rank=20, penalty=5.0, ranker_weight=0.5)
MODELS = {
    "whole": ("dlrm", "ncf", "history", "content"),
    "dlrm": ("dlrm", "content"),
    "history": ("history", "content"),
    "no-content": ("ncf", "history"),
    "few-known": ("ncf", "history"),
    "content": ("content",),
}


@pytest.fixture(scope="module", autouse=True)
def liked_share():
    """Ratings made up at random choose content alone; these lists are to be hybrid."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sdk.models.content.model.choose_share", lambda *_: LikedShare(0.5, 3.0))
        yield


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root, made = tmp_path_factory.mktemp("bundles"), {}

    def folder(name):
        if name not in made:
            made[name] = root / name
            least = FeatureConfig(content_dim=3, min_user_ratings=10 if name == "few-known" else 2)
            train_bundle(DATA, run_config(models=MODELS[name], history=HISTORY, features=least), made[name])
        return made[name]

    return folder


@pytest.fixture
def whole(folders):
    return load(folders("whole"))


def users_by(bundle, source, count=5):
    ids = bundle.encoded_users.known_ids
    return ids[bundle.recommend(ids, 1).source == source][:count].tolist()


def warm_users(bundle, count=5):
    return users_by(bundle, bundle.info.chosen_model or "history", count)


def rated_by(user):
    own = DATA.interactions.user_id == user
    return dict(zip(DATA.interactions.item_id[own].tolist(), DATA.interactions.rating[own].tolist(), strict=True))


def num_likes(user):
    return sum(stars >= HISTORY.like_at for stars in rated_by(user).values())


def parts_of(why):
    return why.liked + why.watched + why.itself + why.popularity + why.ranker


@pytest.mark.parametrize("model", ["best", "dlrm", "ncf"])
@pytest.mark.parametrize("include_seen", [False, True])
def test_the_parts_sum_to_the_listed_score(whole, model, include_seen):
    for user in warm_users(whole):
        ids, scores = whole.recommend([user], 8, model=model, include_seen=include_seen).row(0)
        found = whole.explain_recommendation(user, ids, model=model)
        assert [why.item_id for why in found] == ids.tolist()
        assert [why.source for why in found] == [whole.resolve_model(model)] * len(ids)
        np.testing.assert_allclose([why.score for why in found], scores, rtol=0, atol=1e-5)
        np.testing.assert_allclose([parts_of(why) for why in found], scores, rtol=0, atol=1e-5)


def score_without(bundle, user, item, left_out):
    """The history score of (user, item) with one rating left out, by scoring the shortened history anew.

    Popularity counts more for a shorter history; that is no title's doing, so it counts as for the whole one.
    """
    rows, rating = bundle.interactions.rows, bundle.interactions.rating
    gone = bundle.encoded_items.index_of([left_out])[0]
    u, i = bundle.encoded_users.index_of([user]), bundle.encoded_items.index_of([item])
    kept = (rows.user_index != u[0]) | (rows.item_index != gone)
    columns = (rows.user_index[kept], rows.item_index[kept], rating[kept])
    form = bundle.history.to_pair_form(*columns, len(bundle.encoded_users))
    mine = rating[rows.user_index == u[0]]
    boost = HISTORY.popularity_boost / (HISTORY.weights(mine).sum() + HISTORY.boost_titles)
    more = (boost - form.users.dot[u[0], -1]) * bundle.history.item_bias[i[0]]
    return float(form.score_pairs(u, i)[0] + more)


def test_each_title_adds_what_the_score_loses_without_it(whole):
    user = max(warm_users(whole, 100), key=num_likes)
    rated = rated_by(user)
    for item in whole.recommend([user], 3).row(0)[0].tolist():
        full = score_without(whole, user, item, left_out=-1)
        lost = {title: full - score_without(whole, user, item, title) for title in rated}
        why = whole.explain_recommendation(user, [item], max_titles=100)[0]
        likes = {title for title, stars in rated.items() if stars >= HISTORY.like_at}
        assert why.liked == pytest.approx(sum(lost[title] for title in likes), abs=1e-5)
        assert why.watched == pytest.approx(sum(lost[title] for title in set(rated) - likes), abs=1e-5)
        speak = {title for title, added in lost.items() if added > 1e-6}
        assert {one.item_id for one in why.because} == (speak & likes or speak)
        for one in why.because:
            assert one.contribution == pytest.approx(lost[one.item_id], abs=1e-6)
            assert (one.liked, one.rating) == (one.item_id in likes, rated[one.item_id])
        added = [one.contribution for one in why.because]
        assert added == sorted(added, reverse=True)


def test_the_rankers_share_is_its_own_logit_by_its_weight(whole):
    user = warm_users(whole, 1)[0]
    ids = whole.recommend([user], 6, model="ncf").row(0)[0]
    ranker = whole.model("ncf").lower()
    index = np.repeat(whole.encoded_users.index_of([user]), len(ids))
    logits = ranker.score_pairs(index, whole.encoded_items.index_of(ids))
    found = whole.explain_recommendation(user, ids, model="ncf")
    np.testing.assert_allclose([why.ranker for why in found], HISTORY.ranker_weight * logits, rtol=0, atol=1e-5)


def test_what_titles_share_is_the_content_models_word(whole):
    user = warm_users(whole, 1)[0]
    why = whole.explain_recommendation(user, whole.recommend([user], 1).row(0)[0])[0]
    assert why.because
    for one in why.because:
        assert one.shared == whole.content.explain(why.item_id, one.item_id)
        assert one.title == whole.titles([one.item_id])[0]


def test_a_title_is_no_reason_for_itself(whole):
    user = warm_users(whole, 1)[0]
    rated = rated_by(user)
    for why in whole.explain_recommendation(user, list(rated), max_titles=100):
        assert why.item_id not in {one.item_id for one in why.because}
        lost = score_without(whole, user, why.item_id, -1) - score_without(whole, user, why.item_id, why.item_id)
        assert why.itself == pytest.approx(lost, abs=1e-5)


def test_a_visitor_is_explained_by_the_titles_given(whole):
    liked = whole.encoded_items.known_ids[[2, 7, 11]].tolist()
    ids, scores = whole.recommend_for(liked, 5).row(0)
    found = whole.explain_recommendation(None, ids, liked=np.array(liked))
    np.testing.assert_allclose([why.score for why in found], scores, rtol=0, atol=1e-6)
    np.testing.assert_allclose([parts_of(why) for why in found], scores, rtol=0, atol=1e-6)
    for why in found:
        assert why.source == "history"
        assert (why.watched, why.ranker) == (0, 0)
        assert {one.item_id for one in why.because} <= set(liked)
        assert all(one.rating is None and one.liked for one in why.because)


def test_a_list_names_only_as_many_titles_as_asked(whole):
    user = warm_users(whole, 1)[0]
    ids = whole.recommend([user], 4).row(0)[0]
    longest, shortest = (whole.explain_recommendation(user, ids, max_titles=most) for most in (9, 1))
    assert [why.because[:1] for why in longest] == [why.because for why in shortest]


def test_who_liked_nothing_is_told_what_was_watched(folders):
    bundle = load(folders("whole"))
    user = warm_users(bundle, 1)[0]
    own = bundle.interactions.rows.user_index == bundle.encoded_users.index_of([user])[0]
    disliked = dataclasses.replace(
        bundle.interactions, rating=np.where(own, 2.0, bundle.interactions.rating).astype(np.float32)
    )
    bundle.__dict__["interactions"] = disliked
    why = bundle.explain_recommendation(user, bundle.recommend([user], 1, model="ncf").row(0)[0], model="ncf")[0]
    assert why.liked == 0
    assert why.because
    assert not any(one.liked for one in why.because)
    assert why.describe().startswith("watched ")


def test_who_has_only_a_history_is_explained_by_it_and_the_rankers_word_on_strangers(folders):
    bundle = load(folders("few-known"))
    users = users_by(bundle, "history")
    assert len(users) > 2
    for user in users:
        ids, scores = bundle.recommend([user], 5).row(0)
        for why, score in zip(bundle.explain_recommendation(user, ids), scores, strict=True):
            assert why.source == "history"
            assert parts_of(why) == pytest.approx(score, abs=1e-5)


# --- honest sentences


def test_a_stranger_is_told_that_the_titles_are_popular_ones(whole):
    ids, scores = whole.recommend([-5], 3).row(0)
    for why, score in zip(whole.explain_recommendation(-5, ids), scores, strict=True):
        assert (why.source, why.because) == ("popular", ())
        assert (why.score, why.popularity) == (score, score)
        likes = whole.encoded_items.statistics.likes[whole.encoded_items.index_of([why.item_id])[0]]
        assert (
            why.describe() == f"user -5 is not in this bundle: a popular title, liked in {likes:.0f} training ratings"
        )


def test_a_cold_user_is_told_that_too_little_is_known(whole):
    user = users_by(whole, "popular")[0]
    why = whole.explain_recommendation(user, whole.recommend([user], 1).row(0)[0])[0]
    assert why.source == "popular"
    assert why.describe().startswith(f"user {user} has too few ratings for a list of their own: a popular")


def test_a_ranker_alone_names_no_title(folders):
    bundle = load(folders("dlrm"))
    user = warm_users(bundle, 1)[0]
    ids, scores = bundle.recommend([user], 3).row(0)
    found = bundle.explain_recommendation(user, ids)
    np.testing.assert_allclose([why.ranker for why in found], scores, rtol=0, atol=1e-5)
    assert {why.describe() for why in found} == {
        "ranked by dlrm alone, whose score does not come apart into titles (no history model in this bundle)"
    }
    with pytest.raises(UsageError, match="without the history model"):
        bundle.explain_recommendation(None, ids, liked=ids)


def test_without_a_ranker_the_list_is_the_history_models_and_says_so(folders):
    bundle = load(folders("history"))
    user = warm_users(bundle, 1)[0]
    lists = bundle.recommend([user], 5)
    assert lists.source.tolist() == ["history"]
    found = bundle.explain_recommendation(user, lists.row(0)[0])
    assert {why.ranker for why in found} == {0.0}
    np.testing.assert_allclose([parts_of(why) for why in found], lists.row(0)[1], rtol=0, atol=1e-6)


def test_without_content_titles_are_named_without_what_they_share(folders, capsys):
    bundle = load(folders("no-content"))
    user = warm_users(bundle, 1)[0]
    why = bundle.explain_recommendation(user, bundle.recommend([user], 1).row(0)[0])[0]
    assert why.because
    assert all(one.shared is None for one in why.because)
    assert why.describe(max_titles=1) == f"liked {why.because[0].title}"
    title = bundle.titles(bundle.encoded_items.known_ids[:1])[0]
    assert main(["recommend", "--liked", title, "--k", "2", "--bundle", str(bundle.path)]) == 0
    assert f"(liked {title})" in capsys.readouterr().out
    assert main(["similar", title, "--bundle", str(bundle.path)]) == 2
    assert "without the content model" in capsys.readouterr().err


def test_without_any_model_of_users_lists_are_popular_and_say_so(folders):
    bundle = load(folders("content"))
    user = int(bundle.encoded_users.known_ids[0])
    why = bundle.explain_recommendation(user, bundle.recommend([user], 1).row(0)[0])[0]
    assert why.describe().startswith("this bundle has no model of users: a popular title")


def test_a_visitor_without_likes_gets_popular_titles_and_is_told(whole):
    lists = whole.recommend_for([], 1)
    why = whole.explain_recommendation(None, lists.row(0)[0], liked=[])[0]
    assert (why.source, why.score) == (lists.source[0], lists.scores[0, 0])
    assert why.describe().startswith("nothing is known of the visitor's taste: a popular title, liked in ")


def test_impossible_wishes_are_refused(whole):
    item = int(whole.encoded_items.known_ids[0])
    for arguments in ({"user_id": None}, {"user_id": 1, "liked": [item]}):
        with pytest.raises(UsageError, match="one of the two"):
            whole.explain_recommendation(item_ids=[item], **arguments)
    with pytest.raises(UsageError, match="max_titles: got 0"):
        whole.explain_recommendation(1, [item], max_titles=0)
    with pytest.raises(UnknownItemError):
        whole.explain_recommendation(1, [-1])
    with pytest.raises(UnknownItemError):
        whole.explain_recommendation(None, [item], liked=[-1])
    with pytest.raises(UsageError, match="kind: got 'learned'"):
        whole.similar([item], 3, kind="learned")


# --- the command line


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_recommend_prints_titles_genres_and_a_reason_in_one_line_each(whole, capsys):
    user = warm_users(whole, 1)[0]
    code, out, _ = run(capsys, "recommend", "--user", user, "--k", 4, "--bundle", whole.path)
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == f"for user {user}, made from what they had ({whole.info.chosen_model}):"
    ids = whole.recommend([user], 4).row(0)[0]
    genres = dict(zip(DATA.items["item_id"].to_pylist(), DATA.items["genres"].to_pylist(), strict=True))
    for line, why in zip(lines[1:], whole.explain_recommendation(user, ids), strict=True):
        assert f"  {why.title}  [{', '.join(genres[why.item_id])}]  ({why.describe()})" in line


def test_why_takes_each_score_apart_line_by_line(whole, capsys):
    user = warm_users(whole, 1)[0]
    _, out, _ = run(capsys, "recommend", "--user", user, "--k", 3, "--why", "--bundle", whole.path)
    sums, scores = [], []
    for line in out.splitlines()[1:]:
        if line.startswith("     "):
            sums[-1] += float(line.split()[0])
        else:
            sums.append(0.0)
            scores.append(float(line.split()[1]))
    assert len(scores) == 3
    np.testing.assert_allclose(sums, scores, rtol=0, atol=2e-3)


def test_a_visitor_names_titles_and_a_misspelt_one_gets_suggestions(whole, capsys):
    first, second = whole.titles(whole.encoded_items.known_ids[[3, 4]])
    code, out, _ = run(capsys, "recommend", "--liked", first, "--liked", second, "--k", 2, "--bundle", whole.path)
    assert code == 0
    assert out.startswith(f"for a visitor who liked {first}, {second}, made from what they had (history):\n")
    wrong = first.replace("Film", "Fiml")
    for command in (["recommend", "--liked", wrong], ["similar", wrong]):
        code, out, err = run(capsys, *command, "--bundle", whole.path)
        assert (code, out) == (2, "")
        assert f"no title '{wrong}'" in err
        assert repr(first) in err
    code, _, err = run(capsys, "recommend", "--liked", first, "--model", "ncf", "--bundle", whole.path)
    assert code == 2
    assert "drop --model" in err


@pytest.mark.parametrize("arguments", [[], ["--user", "1", "--liked", "Heat"]])
def test_a_reader_is_a_user_or_a_visitor(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["recommend", *arguments])
    assert stop.value.code == 2


def test_json_says_what_why_says_whether_asked_for_or_not(capsys, whole):
    said = [run(capsys, "recommend", "--user", "1", "--json", *why, "--bundle", whole.path) for why in ([], ["--why"])]
    assert said[0] == said[1]
    assert said[0][0] == 0
    assert json.loads(said[0][1])["items"][0]["why"]


NUMBER = (int, float)
TITLE = {"item_id": int, "title": str, "year": (int, type(None)), "genres": list}
RECOMMENDED = {**TITLE, "rank": int, "score": NUMBER, "source": str, "reason": str, "why": dict}
WHY = {"liked": NUMBER, "watched": NUMBER, "itself": NUMBER, "popularity": NUMBER, "ranker": NUMBER, "note": str,
       "because": list}  # fmt: skip
BECAUSE = {"item_id": int, "title": str, "rating": (float, type(None)), "liked": bool, "contribution": NUMBER,
           "shared": dict}  # fmt: skip
SIMILAR = {**TITLE, "rank": int, "score": NUMBER, "source": str, "reason": str, "cosine": NUMBER, "learned": NUMBER,
           "contributions": dict, "shared": dict}  # fmt: skip


def assert_form(value, form):
    assert value.keys() == form.keys()
    for name, kind in form.items():
        assert isinstance(value[name], kind), f"{name}: {value[name]!r}"


@pytest.mark.parametrize("reader", ["user", "stranger", "visitor"])
def test_recommend_json_has_one_form_for_every_reader(whole, capsys, reader):
    first = whole.titles(whole.encoded_items.known_ids[:1])[0]
    chosen = {"user": ["--user", warm_users(whole, 1)[0]], "stranger": ["--user", -5], "visitor": ["--liked", first]}
    _, out, _ = run(capsys, "recommend", *chosen[reader], "--k", 3, "--json", "--bundle", whole.path)
    answer = json.loads(out)
    assert len(out.splitlines()) == 1
    assert_form(answer, {"user_id": (int, type(None)), "liked": list, "source": str, "items": list})
    assert [item["rank"] for item in answer["items"]] == [1, 2, 3]
    for item in answer["items"]:
        assert_form(item, RECOMMENDED)
        assert_form(item["why"], WHY)
        for one in item["why"]["because"]:
            assert_form(one, BECAUSE)
        assert bool(item["why"]["because"]) != bool(item["why"]["note"])
    assert [title["title"] for title in answer["liked"]] == (
        DATA.items["title"].to_pylist()[:1] if reader == "visitor" else []
    )


@pytest.mark.parametrize("kind", ["content", "hybrid"])
def test_similar_json_holds_the_list_with_what_is_shared(whole, capsys, kind):
    item_id = int(whole.encoded_items.known_ids[5])
    title = whole.titles([item_id])[0]
    _, out, _ = run(capsys, "similar", title, "--k", 4, "--kind", kind, "--json", "--bundle", whole.path)
    answer = json.loads(out)
    assert_form(answer, {**TITLE, "items": list})
    ids, scores = whole.similar([item_id], 4, kind=kind).row(0)
    assert [item["item_id"] for item in answer["items"]] == ids.tolist()
    np.testing.assert_allclose([item["score"] for item in answer["items"]], scores, rtol=1e-6)
    for item in answer["items"]:
        assert_form(item, SIMILAR)
        assert item["source"] == kind
        assert sum(item["contributions"].values()) == pytest.approx(item["cosine"], abs=1e-6)
        assert ("liked by the same people" in item["reason"]) == (item["learned"] > 0)


def test_similar_prints_genres_and_reasons(whole, capsys):
    item_id = int(whole.encoded_items.known_ids[5])
    _, out, _ = run(capsys, "similar", whole.titles([item_id])[0], "--k", 2, "--bundle", whole.path)
    head, first, _ = out.splitlines()
    assert head == f"like {whole.titles([item_id])[0]}, by what they are and who likes both (hybrid):"
    (other,), (score,) = whole.similar([item_id], 1).row(0)
    why = whole.explain(item_id, int(other))
    liked = score - (1 - whole.content.shares([item_id])[0]) * why.score
    people = f"; liked by the same people, {liked / score:.0%} of it" if liked > 1e-6 else ""
    assert first.endswith(f"({why.describe()}{people})".replace("(; ", "("))
    assert "[" in first


@pytest.mark.parametrize(("item", "plural"), [
    ("product", "products"), ("dish", "dishes"), ("story", "stories"), ("play", "plays"), ("", "items"),
])  # fmt: skip
def test_items_are_called_what_their_description_calls_them(item, plural):
    words = words_of(Description(feedback="explicit", items={"name": "title"}, item=item))
    assert (words.item, words.items) == (item or "item", plural)
    assert (words.liked_items, words.other_items) == (f"liked {plural}", f"rated {plural}")
    again = Description.of_json(json.loads(json.dumps(Description(items={}, item=item).as_json())))
    assert again.item == item
    assert ("item" in Description(items={}, item=item).as_json()) == bool(item)
