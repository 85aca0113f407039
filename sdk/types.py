"""The old place of `sdk.base.types`, which repositories exported before still import. New code does not."""

from sdk.base.types import Bools, Float32s, Float64s, Int32s, Int64s, TopK

__all__ = ["Bools", "Float32s", "Float64s", "Int32s", "Int64s", "TopK"]
