"""``python -m ops.doctor``: checks a real project and says in plain words what is wrong and what to do about it.

Adapters (``catalog``, ``provider``, ``function``, ``cloud``, and ``ops.common.rest``) gather facts; ``checks`` are
pure: facts in, findings out. It reads only; ``--fix-webhooks`` is the one thing that changes something.
"""
