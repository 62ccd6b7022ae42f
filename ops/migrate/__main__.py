"""Run the migrations."""

import sys

from ops.migrate.cli import main

if __name__ == "__main__":
    sys.exit(main())
