"""A staged night against its bundle, read back from what was written, and against the night before.

Uses `lists` and below. Begin with `audit.audit_parts`; `expectations` says what it is held against.
"""
