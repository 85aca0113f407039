"""A DLRM's gradients without autograd: the network laid out in strips, and the compiled code that runs them.

Uses `models` and `scoring`. Begin with `dlrm_pass`; docs/memory.md draws what lies where.
"""
