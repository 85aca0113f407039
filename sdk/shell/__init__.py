"""What a command looks like: options and their types, exit codes, completion, tables on a terminal.

Uses `base` and `machine`. Begin with `cli.run_command`.
"""
