"""Asks gcloud's own parser about many commands in one process: run by gcloud's Python, with its root as argument.

Reads a JSON list of commands (lists of words, without ``gcloud``); writes a list of [status, what was said].
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

root = sys.argv[1]
sys.path[:0] = [f"{root}/lib", f"{root}/lib/third_party"]

from googlecloudsdk import gcloud_main  # noqa: E402 - found on the path of before
from googlecloudsdk.core import log  # noqa: E402
from googlecloudsdk.core.credentials import creds_context_managers  # noqa: E402

answers = []
gcloud = gcloud_main.CreateCLI([])
for words in json.load(sys.stdin):
    status, said = 0, io.StringIO()
    log.Reset(stdout=io.StringIO(), stderr=said)
    with (
        creds_context_managers.CredentialProvidersManager(None),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        try:
            gcloud.Execute(words)
        except SystemExit as end:
            status = end.code
    answers.append([status, said.getvalue()])
json.dump(answers, sys.stdout)
