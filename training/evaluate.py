"""Judge a model on frames with truth. ``--help`` says how."""

import sys

from lemumo_core.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
