"""The encodings and the tables made of them, against pandas and against brute force."""

import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small import GENRES, item_table, ratings, user_table

from sdk.base.config import FeatureConfig
from sdk.base.errors import BundleError, DataError
from sdk.data.splits import Split
from sdk.features.builtin import Encoding, Number
from sdk.features.encode import encode_interactions, fit_features
from sdk.features.engine import WORKFLOWS, engine_of
from sdk.features.interactions import TEST, TRAIN, VALIDATION, StoredInteractions
from sdk.features.table_files import read_table, write_table
from sdk.features.tables import FIRST_KNOWN, UNKNOWN, EncodedInteractions, EncodedTable

USER_IDS = [2, 5, 9, 14, 10**12]
ITEM_IDS = [1, 3, 4, 8, 20, 2**40]
RARE = FeatureConfig(min_user_ratings=3, min_item_ratings=3, content_dim=0)


def training_ratings():
    """User 9 has two ratings, user 10**12 none; item 20 has two, item 2**40 none."""
    items_of = {2: [1, 3, 4, 8], 5: [1, 3, 4, 20], 9: [1, 20], 14: [3, 4, 8, 1]}
    pairs = [(user, item) for user, items in items_of.items() for item in items] + [(5, 8)]
    stars = [4, 5, 3, 3.5, 1, 2, 3, 4, 5, 3, 0.5, 4.5, 5, 3, 2]
    return ratings(*zip(*pairs, strict=True), stars)


def no_vectors(items):
    return np.zeros((items.num_rows, 0), dtype=np.float32)


def fit(tmp_path, users=None, items=None, config=RARE, train=None, vectors=None):
    users = user_table(USER_IDS) if users is None else users
    items = item_table(ITEM_IDS) if items is None else items
    vectors = no_vectors(items) if vectors is None else vectors
    work = tmp_path / "work"
    work.mkdir()
    return fit_features(train or training_ratings(), users, items, vectors, config, work)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("plain"))


# --- ids ----------------------------------------------------------------------------------------------------------


def test_rows_are_the_known_ids_in_ascending_order_behind_three_reserved_ones(plain):
    assert plain.users.ids.tolist() == [-1, -1, -1, *USER_IDS]
    assert plain.items.ids.tolist() == [-1, -1, -1, *ITEM_IDS]
    encoded = plain.encode(training_ratings())
    np.testing.assert_array_equal(plain.users.ids[encoded.user_index], training_ratings().user_id)
    np.testing.assert_array_equal(plain.items.ids[encoded.item_index], training_ratings().item_id)


def test_unknown_ids_of_every_size_become_the_unknown_row(plain):
    strange = [-(2**63), -1, 0, 1, 7, 2**31, 2**63 - 1]
    encoded = plain.encode(ratings(strange, [2, -5, 0, 2**62, 7, 9, -(2**40)], [3.0] * 7))
    assert set(encoded.user_index.tolist()) == {UNKNOWN}
    assert set(encoded.item_index.tolist()) == {UNKNOWN}


def test_the_table_finds_rows_as_the_workflow_does(plain):
    ids = np.array([2, 3, 5, -1, 10**12, 2**63 - 1, 0])
    encoded = plain.encode(ratings(ids, np.full(7, 1), np.full(7, 3.0)))
    assert plain.users.index_of(ids).tolist() == encoded.user_index.tolist() == [3, 2, 4, 2, 7, 2, 2]
    empty = plain.users.index_of([])
    assert (empty.dtype, len(empty)) == (np.int64, 0)


def test_labels_are_ratings_strictly_above_the_threshold(plain, tmp_path):
    train = training_ratings()
    assert plain.encode(train).label.tolist() == (train.rating > 3.0).astype(int).tolist()
    stricter = fit(tmp_path, config=FeatureConfig(like_above=4.0, content_dim=0))
    assert stricter.encode(train).label.tolist() == (train.rating > 4.0).astype(int).tolist()


def test_no_ratings_encode_to_no_rows(plain):
    none = plain.encode(ratings([], [], []))
    assert (len(none), none.user_index.dtype, none.label.dtype) == (0, np.int32, np.int8)


@pytest.mark.parametrize(("side", "column"), [("users", "user_id"), ("items", "item_id")])
def test_frequent_ids_have_codes_of_their_own_and_rare_ones_share_the_unknown_one(plain, side, column):
    table = getattr(plain, side)
    counts = pd.Series(getattr(training_ratings(), column)).value_counts()
    frequent = [i for i in table.known_ids if counts.get(i, 0) >= 3]
    codes = dict(zip(table.known_ids.tolist(), table.codes["id"][FIRST_KNOWN:].tolist(), strict=True))
    own = [codes[i] for i in frequent]
    assert 0 < len(frequent) < len(codes)
    assert len(set(own)) == len(own)
    assert min(own) >= FIRST_KNOWN
    assert {code for i, code in codes.items() if i not in frequent} == {UNKNOWN}
    assert table.cardinalities["id"] == len(frequent) + FIRST_KNOWN
    assert table.codes["id"][:FIRST_KNOWN].tolist() == [UNKNOWN] * FIRST_KNOWN


def test_with_a_threshold_of_one_every_rated_id_has_its_own_code(tmp_path):
    config = FeatureConfig(min_user_ratings=1, min_item_ratings=1, content_dim=0)
    table = fit(tmp_path, config=config).users
    assert sorted(table.codes["id"][FIRST_KNOWN:].tolist()) == [UNKNOWN, 3, 4, 5, 6]


# --- statistics ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "column"), [("users", "user_id"), ("items", "item_id")])
def test_statistics_count_the_training_ratings_alone(plain, side, column):
    table, train = getattr(plain, side), training_ratings()
    frame = pd.DataFrame({"id": getattr(train, column), "liked": train.rating > 3})
    by_id = frame.groupby("id").liked.agg(["size", "sum"]).reindex(table.known_ids, fill_value=0)
    np.testing.assert_array_equal(table.statistics.count, [0, 0, 0, *by_id["size"]])
    np.testing.assert_array_equal(table.statistics.likes, [0, 0, 0, *by_id["sum"]])
    share = frame.liked.mean()
    assert table.statistics.prior_rate == pytest.approx(share)
    raw = np.stack([np.log1p(by_id["size"]), (by_id["sum"] + 5 * share) / (by_id["size"] + 5)], axis=1)
    expected = (raw - raw.mean(axis=0)) / table.statistics.std
    np.testing.assert_allclose(table.dense[FIRST_KNOWN:, :2], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(table.statistics.std, raw.std(axis=0), rtol=0.2)  # of a sample or of a population
    assert table.dense_names[:2] == ("log_count", "like_rate")


def test_ratings_outside_the_training_part_change_no_table(plain, tmp_path):
    again = fit(tmp_path)
    again.encode(ratings([10**12] * 3, [2**40] * 3, [5.0] * 3))
    for side in ("users", "items"):
        np.testing.assert_array_equal(getattr(again, side).dense, getattr(plain, side).dense)


def test_the_reserved_rows_describe_somebody_without_ratings(plain):
    nobody = plain.users.index_of([10**12])[0]  # a known user without a rating
    np.testing.assert_allclose(plain.users.dense[UNKNOWN, :2], plain.users.dense[nobody, :2], rtol=1e-5, atol=1e-6)
    assert (plain.users.dense[:FIRST_KNOWN, 2:] == 0).all()
    assert (plain.items.multi_hot["genres"][:FIRST_KNOWN] == 0).all()


def test_all_users_alike_give_finite_numbers(tmp_path):
    train = ratings([1, 1, 2, 2], [5, 6, 5, 6], [4, 2, 4, 2])
    made = fit(tmp_path, user_table([1, 2]), item_table([5, 6]), train=train)
    assert np.isfinite(made.users.dense).all()
    assert (made.users.dense[FIRST_KNOWN:] == 0).all()


def test_one_user_and_one_item_are_enough(tmp_path):
    made = fit(tmp_path, user_table([1]), item_table([5]), train=ratings([1], [5], [4.0]))
    assert np.isfinite(made.users.dense).all()
    assert np.isfinite(made.items.dense).all()
    assert made.encode(ratings([1], [5], [4.0])).user_index.tolist() == [FIRST_KNOWN]


# --- attributes ---------------------------------------------------------------------------------------------------


def test_present_user_attributes_are_encoded_and_absent_ones_left_out(tmp_path):
    users = user_table(USER_IDS, gender=["F", "M", None, "F", "M"], age=[20, 30, None, 50, 60])
    made = fit(tmp_path, users).users
    assert set(made.codes) == {"id", "gender"}
    gender = made.codes["gender"][FIRST_KNOWN:]
    assert gender[0] == gender[3] != gender[1] == gender[4]
    assert gender[2] not in (gender[0], gender[1])
    assert gender.max() < made.cardinalities["gender"]
    assert made.dense_names == ("log_count", "like_rate", "age")
    filled = np.array([20, 30, 40, 50, 60])  # the median where it is unknown
    assert np.corrcoef(made.dense[FIRST_KNOWN:, 2], filled)[0, 1] == pytest.approx(1, abs=1e-5)
    assert made.dense[FIRST_KNOWN:, 2].mean() == pytest.approx(0, abs=1e-5)


def test_without_attributes_a_user_is_an_id_and_two_statistics(plain):
    assert set(plain.users.codes) == {"id"}
    assert plain.users.dense_names == ("log_count", "like_rate")


def test_genres_become_equal_shares_and_no_genre_a_value_of_its_own(tmp_path):
    genres = [["Drama"], [], ["Comedy", "Drama"], ["Comedy", "Drama", "Horror"], [], list(GENRES)]
    table = fit(tmp_path, items=item_table(ITEM_IDS, genres=genres)).items
    shares = table.multi_hot["genres"][FIRST_KNOWN:]
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert [(row > 0).sum() for row in shares] == [max(len(g), 1) for g in genres]
    drama, none = shares[0].argmax(), shares[1].argmax()
    assert drama != none
    np.testing.assert_allclose(shares[:, drama], [("Drama" in g) / max(len(g), 1) for g in genres], rtol=1e-6)
    np.testing.assert_array_equal(shares[:, none], [not g for g in genres])
    assert shares.shape[1] == table.cardinalities["genres"]


def test_items_without_any_genre_or_year_are_encoded(tmp_path):
    items = item_table(ITEM_IDS, genres=[[]] * 6, year=[None] * 6)
    table = fit(tmp_path, items=items).items
    assert table.dense_names == ("log_count", "like_rate")
    assert len(np.unique(table.multi_hot["genres"][FIRST_KNOWN:], axis=0)) == 1


def test_a_missing_year_is_the_median_and_content_follows_it(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    items = item_table(ITEM_IDS, year=[1990, None, 2000, 2010, None, 1980])
    table = fit(tmp_path, items=items, vectors=vectors).items
    assert table.dense_names == ("log_count", "like_rate", "year", "content_0", "content_1")
    year = table.dense[FIRST_KNOWN:, 2]
    assert year[1] == year[4]
    assert year[0] < year[1] < year[2]
    for column in range(2):
        correlation = np.corrcoef(table.dense[FIRST_KNOWN:, 3 + column], vectors[:, column])[0, 1]
        assert correlation == pytest.approx(1, abs=1e-4)


def test_a_table_whose_parts_disagree_is_refused(plain):
    table = plain.users
    parts = {name: getattr(table, name) for name in EncodedTable.__slots__}
    with pytest.raises(DataError, match="differ in length"):
        EncodedTable(**{**parts, "dense": table.dense[1:]})
    with pytest.raises(DataError, match="'id' lie outside"):
        EncodedTable(**{**parts, "cardinalities": {"id": 2}})


# --- on disk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["nvtabular", "builtin"])
def test_what_is_saved_encodes_the_same_elsewhere_by_either_engine(tmp_path, monkeypatch, engine):
    users = user_table(USER_IDS, gender=["F", "M", None, "F", "M"])
    made = fit(tmp_path, users)
    train = training_ratings()
    before = made.encode(train)
    for name, encoding in made.encodings.items():
        encoding.save(str(tmp_path / "first" / name))
    shutil.move(tmp_path / "first", tmp_path / "second")
    shutil.rmtree(tmp_path / "work")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded = {
        name: engine_of(engine).transformer(Encoding.load(str(tmp_path / "second" / name)), ["genres"], tmp_path / name)
        for name in WORKFLOWS
    }
    after = encode_interactions(loaded["interactions"], train)
    for column in ("user_index", "item_index", "label"):
        np.testing.assert_array_equal(getattr(after, column), getattr(before, column))
    ids = pd.DataFrame({"user_id": USER_IDS, "item_id": ITEM_IDS[:5]})
    assert loaded["codes"](ids)["user_id"].tolist() == made.users.codes["id"][3:].tolist()
    frame = pd.DataFrame({"gender": ["M", "F"], "log_count": [0.0, 1.0], "like_rate": [0.0, 1.0]})
    assert loaded["users"](frame)["gender"].tolist() == made.users.codes["gender"][[4, 3]].tolist()
    assert list((tmp_path / "elsewhere").iterdir()) == [], "it wrote into the current folder"


def test_a_table_read_back_is_the_table_written(tmp_path):
    users = user_table(USER_IDS, gender=["F", "M", None, "F", "M"], age=[20, None, 40, 50, 60])
    vectors = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    items = item_table(ITEM_IDS, year=[1990, None, 2000, 2010, None, 1980])
    made = fit(tmp_path, users, items, vectors=vectors)
    for raw, table, name in ((users, made.users, "user_id"), (items, made.items, "item_id")):
        facts = write_table(raw, table, tmp_path / "table.parquet")
        raw_again, again = read_table(tmp_path / "table.parquet", name, facts)
        assert raw_again.equals(raw)
        assert_same_table(again, table)


def assert_same_table(got, expected):
    for name in ("ids", "dense"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), err_msg=name)
        assert getattr(got, name).dtype == getattr(expected, name).dtype
    for name in ("codes", "multi_hot"):
        assert list(getattr(got, name)) == list(getattr(expected, name))
        for key, values in getattr(expected, name).items():
            np.testing.assert_array_equal(getattr(got, name)[key], values, err_msg=key)
            assert getattr(got, name)[key].dtype == values.dtype
    assert dict(got.cardinalities) == dict(expected.cardinalities)
    assert got.dense_names == expected.dense_names
    for name in ("count", "likes", "mean", "std"):
        np.testing.assert_array_equal(getattr(got.statistics, name), getattr(expected.statistics, name), err_msg=name)
    assert got.statistics.prior_rate == expected.statistics.prior_rate
    assert got.statistics.prior_count == expected.statistics.prior_count


def test_a_table_that_does_not_fit_its_facts_is_refused_by_path(plain, tmp_path):
    path = tmp_path / "users.parquet"
    facts = write_table(user_table(USER_IDS), plain.users, path)
    for wrong in ({**facts, "codes": ["id", "gender"]}, {k: v for k, v in facts.items() if k != "mean"}):
        with pytest.raises(BundleError, match=r"users\.parquet"):
            read_table(path, "user_id", wrong)
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(BundleError, match=r"users\.parquet"):
        read_table(path, "user_id", facts)


def test_stored_interactions_know_their_parts_and_survive_the_disk(tmp_path):
    n = np.arange(10)
    rows = EncodedInteractions((n % 4 + 3).astype(np.int32), (n + 3).astype(np.int32), (n % 2).astype(np.int8))
    stored = StoredInteractions.build(rows, np.full(len(rows), 4, np.float32), Split(n[:6], n[6:8], n[8:]))
    stored.write(tmp_path / "seen.parquet")
    again = StoredInteractions.read(tmp_path / "seen.parquet", (8, 13))
    assert again.of(TEST).item_index.tolist() == [11, 12]
    assert again.of(TRAIN, VALIDATION).item_index.tolist() == list(range(3, 11))
    assert again.seen(8).row(3).tolist() == [3, 7, 11]
    assert again.only(TRAIN).seen(8).row(3).tolist() == [3, 7]
    for column in ("user_index", "item_index", "label"):
        assert getattr(again.rows, column).dtype == getattr(rows, column).dtype
    (tmp_path / "seen.parquet").write_bytes(b"")
    with pytest.raises(BundleError, match=r"seen\.parquet"):
        StoredInteractions.read(tmp_path / "seen.parquet", (8, 13))


@pytest.mark.needs("nvtabular")
def test_merlins_schema_says_which_columns_are_ids_and_which_are_lists(tmp_path):
    from merlin.schema import Tags

    from sdk.features.workflows import workflow_of

    known = {"user_id": pa.array([1, 2]), "item_id": pa.array(["a", "b"]), "tags": pa.array(["x"])}
    layout = workflow_of(Encoding(known, {"price": Number(1.0, 1.0, 1.0)}, 3.0), ["tags"], tmp_path).output_schema
    said = {
        tag: layout.select_by_tag(tag).column_names
        for tag in (Tags.USER_ID, Tags.ITEM_ID, Tags.LIST, Tags.CATEGORICAL, Tags.CONTINUOUS, Tags.TARGET)
    }
    assert list(said.values()) == [
        ["user_id"], ["item_id"], ["tags"], ["user_id", "item_id", "tags"], ["price"], ["rating"],
    ]  # fmt: skip


def test_ratings_are_stored_by_user_and_come_back_in_their_order(tmp_path):
    rng = np.random.default_rng(4)
    user, item = rng.integers(3, 9, 50).astype(np.int32), rng.integers(3, 20, 50).astype(np.int32)
    rows = EncodedInteractions(user, item, np.zeros(50, np.int8))
    stored = StoredInteractions(rows, np.zeros(50, np.int8), rng.random(50).astype(np.float32), np.arange(50))
    stored.write(tmp_path / "seen.parquet")
    table = pq.read_table(tmp_path / "seen.parquet")
    assert table["user_index"].to_pylist() == sorted(user.tolist())
    for row in np.unique(user).tolist():
        mine = np.asarray(table["user_index"]) == row
        assert np.asarray(table["item_index"])[mine].tolist() == item[user == row].tolist()
    again = StoredInteractions.read(tmp_path / "seen.parquet", (9, 20), with_times=True)
    assert (again.rows.user_index.tolist(), again.timestamp.tolist()) == (user.tolist(), list(range(50)))
    assert again.rating.tolist() == stored.rating.tolist()
    at = table.schema.get_field_index("place")
    pq.write_table(table.set_column(at, "place", pa.array([0] * 50)), tmp_path / "seen.parquet")
    with pytest.raises(BundleError, match="place"):
        StoredInteractions.read(tmp_path / "seen.parquet", (9, 20))
