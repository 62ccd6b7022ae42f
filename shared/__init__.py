"""Auto-recovery of WhatsApp lines: what both functions share.

HTTP (``functions/``) -> use case (``sweep``, ``intake``) -> decision (``decisions``, ``looks``) -> ``store``.
"""
