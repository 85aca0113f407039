"""`python -m sdk …`: one module a command. The work itself is elsewhere.

Uses everything. `sdk/__main__.py` names them.
"""
