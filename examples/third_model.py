"""A third model: two towers (Yi et al. 2019, RecSys, section 3). Run: python examples/third_model.py [BUNDLE]"""

import argparse

from torch import Tensor, cat, nn

import sdk
from sdk.features.interactions import TEST, TRAIN, VALIDATION
from sdk.features.tables import EncodedTable
from sdk.metrics.pointwise import auc
from sdk.models.pair_model import Batch, PairModel, SideTensors, TableBuffers, look_up, mlp, squared_norms
from sdk.models.predict import predict
from sdk.scoring.engine import Engine
from sdk.training.loop import seeded, train


class TwoTower(PairModel):
    """Each side's id and features go through a tower of their own; the towers' outputs meet in a dot product."""

    def __init__(self, users: EncodedTable, items: EncodedTable, dim: int = 32, hidden: int = 64) -> None:
        super().__init__(users, items, id_dropout=0.02)
        self.top_mlp = None  # nothing but the dot product and the biases joins the sides
        self.ids = nn.ModuleList(nn.Embedding(table.cardinalities["id"], dim) for table in (users, items))
        self.biases = nn.ModuleList(nn.Embedding(table.cardinalities["id"], 1) for table in (users, items))
        widths = [table.dense.shape[1] + sum(s.shape[1] for s in table.multi_hot.values()) for table in (users, items)]
        self.towers = nn.ModuleList(mlp((dim + width, hidden, dim), last_relu=False) for width in widths)

    def encode_users(self, rows: Tensor, batch: Batch | None = None) -> SideTensors:
        """The user side of (B,) int64 rows; with a batch, as training sees it."""
        return self._encode(0, self.users, rows, batch)

    def encode_items(self, rows: Tensor, batch: Batch | None = None) -> SideTensors:
        """The item side of (B,) int64 rows; with a batch, as training sees it."""
        return self._encode(1, self.items, rows, batch)

    def _encode(self, side: int, table: TableBuffers, rows: Tensor, batch: Batch | None) -> SideTensors:
        codes, lookups = self.pick_ids(table.codes_of("id", rows), batch, side), batch.lookups if batch else None
        own = look_up(self.ids[side], codes, lookups)
        bias = look_up(self.biases[side], codes, lookups, penalised=False)[:, 0]
        lists = [table.shares_of(name, rows) for name in table.multi_hot_names]
        dot = self.towers[side](cat([own, table.dense_of(rows, batch), *lists], dim=1))
        none = dot.new_zeros(len(rows), 0)
        return SideTensors(bias, dot, none[:, :, None], none, squared_norms([] if lookups is not None else [own], dot))


def main(bundle: sdk.Bundle) -> None:
    """Train on the bundle's training and validation part, measure on its test part, and list what it recommends."""
    users, items, rated, config = bundle.encoded_users, bundle.encoded_items, bundle.interactions, sdk.TrainingConfig()
    model = seeded(lambda: TwoTower(users, items), config)
    train(model, rated.of(TRAIN, VALIDATION), None, config, name="two-tower", num_epochs=5)
    print(f"two-tower: test AUC {auc((test := rated.of(TEST)).label, predict(model, test)):.4f}")
    first = users.index_of(users.known_ids[:1])
    best = Engine(model.lower()).top_k(first, rated.seen(len(users)).take(first), k=5)
    print(f"user {users.known_ids[0]}:", ", ".join(bundle.titles(items.ids[best.item_index[0]])))


if __name__ == "__main__":
    (parser := argparse.ArgumentParser(description=__doc__)).add_argument("bundle", nargs="?", default="bundle")
    main(sdk.load(parser.parse_args().bundle).measured)
