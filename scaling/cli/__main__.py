"""`python -m scaling.cli` is the `scaling` command."""

import sys

from scaling.cli import main

if __name__ == "__main__":
    sys.exit(main())
