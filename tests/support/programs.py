"""Programs that a test puts into PATH in place of real ones."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def python_program(path: Path, code: str) -> None:
    """Write a program in Python. A shell starts it: the line ``#!`` holds no path with a blank in it."""
    source = path.with_name(f"{path.name}-source.py")
    source.write_text(code, "utf-8")
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{source}" "$@"\n', "utf-8")
    path.chmod(0o755)
