"""What learns: rankers as PyTorch modules (`pair_model`, `dlrm`, `ncf`), and the pair form that all are lowered to.

Uses everything down to `features` and `metrics`. Begin with `pair_form`, then `pair_model`.
"""
