"""What items are called on pages and terminals: by their names, and where no film's columns say more, by their kind."""

from __future__ import annotations

from sdk.base.ids import ids_of, rows_of
from sdk.base.types import Ids
from sdk.bundles.bundle import Bundle

_MOST = 2


def item_names(bundle: Bundle, item_ids: Ids) -> list[str]:
    """``The Matrix (1999)``; of items that are no films their name and first groups or categories: ``SKU-7 (Acme)``."""
    wanted = ids_of(item_ids, "item_ids", bundle.encoded_items.ids)
    names, about = bundle.titles(wanted), bundle.about
    columns = about.item_columns("group", "categorical")[:_MOST]
    if about.is_preset("items") or not columns:
        return names
    rows, known = rows_of(bundle.encoded_items.known_ids, wanted), bundle.items.select(columns)
    kinds = known.take(rows.clip(0)).to_pylist() if known.num_rows else [{} for _ in rows]
    said = [", ".join(filter(None, kind.values())) if row >= 0 else "" for row, kind in zip(rows, kinds, strict=True)]
    return [f"{name} ({kind})" if kind else name for name, kind in zip(names, said, strict=True)]
