"""The project's ``.env``: what an operator would otherwise export in each terminal.

Read by doctor, report, replay and ``make play``, and by the deploy scripts, for which ``python -m ops.common.env_file``
prints it. The environment wins over it. Functions never read it.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from shared.errors import SettingsError

_PROJECT: Final = Path(__file__).resolve().parents[2]
_NAME: Final = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)


def env_file() -> Path:
    """Where it stands: as ENV_FILE says, else ``.env`` beside the Makefile, which need not be there.

    Raises:
        SettingsError: ENV_FILE names nothing, or the file is not UTF-8.
    """
    named = os.environ.get("ENV_FILE")
    file = Path(named) if named else _PROJECT / ".env"
    if named and not file.exists():
        raise SettingsError(f"settings: ENV_FILE: {named} does not exist")
    try:
        if file.is_file():
            file.read_text("utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"settings: {file} is not UTF-8: save it as that") from None
    return file


def values_of(file: Path) -> dict[str, str]:
    """What stands in a file, by names in capitals."""
    if not file.is_file():
        return {}
    found = dotenv_values(file, interpolate=True, encoding="utf-8")
    return {name.upper(): text for name, text in found.items() if text is not None and _NAME.fullmatch(name.upper())}


def main() -> int:
    """Print each ``NAME=value`` with a NUL after it, for a shell to read."""
    for name, text in values_of(Path(sys.argv[1])).items():
        sys.stdout.write(f"{name}={text}\0")
    return 0


if __name__ == "__main__":
    sys.exit(main())
