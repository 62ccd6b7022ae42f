"""``python -m ops.migrate``: applies the migrations with a history of their own, beside any that a platform has.

``deploy/migrate`` runs it. It needs psycopg and nothing else (deploy/requirements.txt), so that it can run where the
project is not installed.
"""
