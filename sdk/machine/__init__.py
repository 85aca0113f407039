"""What the computer has: processors and GPUs, compiled code and where it is kept, linear algebra, Dask's workers.

Uses `base`. Begin with `device`.
"""
