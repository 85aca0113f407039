"""What everybody uses and nothing is below: errors, types, schemas, configurations, files, paths, ids, logs.

Uses nothing of ours. Begin with `types` (the frozen values between stages) and `errors` (their exit codes).
"""

__version__ = "0.1.0"
