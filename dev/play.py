"""``make play``: the stack, the simulator and both functions, to try by hand; see ``dev/playground.py``."""

import sys

from ops.common import interrupted


def command() -> int:
    """Load and run it: loading can be interrupted as well. Ctrl-C is how one leaves, and no failure."""
    from dev.playground import main  # noqa: PLC0415 - see above

    return main()


if __name__ == "__main__":
    sys.exit(interrupted.run("play", command, cleans_up=True))
