"""`python -m scaling.train`: the same as `scaling train`."""

import sys

from scaling.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
