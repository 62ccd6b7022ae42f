"""Run the doctor."""

import sys

from ops.doctor.cli import main

if __name__ == "__main__":
    sys.exit(main())
