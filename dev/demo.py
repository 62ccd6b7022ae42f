"""``make demo``: the whole story on a local stack; see ``dev/story.py``."""

import sys

from ops.common import interrupted


def command() -> int:
    """Load and run it: loading can be interrupted as well."""
    from dev.story import main  # noqa: PLC0415 - see above

    try:
        return main()
    except KeyboardInterrupt:
        raise interrupted.Interrupted("everything that it had started is gone") from None


if __name__ == "__main__":
    sys.exit(interrupted.run("demo", command, cleans_up=True))
