"""One module per command of ``python -m sdk``: its options in ``add``, its work beside them."""
