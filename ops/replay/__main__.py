"""Run the replay."""

import sys

from ops.common import interrupted


def command() -> int:
    """Load and run it: loading can be interrupted as well."""
    from ops.replay.cli import main  # noqa: PLC0415 - see above

    return main()


if __name__ == "__main__":
    sys.exit(interrupted.run("replay", command))
