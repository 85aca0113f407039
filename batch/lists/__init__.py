"""Users and titles to lists in Parquet parts, shard by shard, in one process or on Dask's workers.

Uses `job` and below. Begin with `shards.write_shard`.
"""
