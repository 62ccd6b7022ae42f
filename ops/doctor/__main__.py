"""Run the doctor."""

import sys

from ops.common import interrupted


def command() -> int:
    """Load and run it: loading can be interrupted as well."""
    from ops.doctor.cli import main  # noqa: PLC0415 - see above

    return main()


if __name__ == "__main__":
    sys.exit(interrupted.run("doctor", command))
