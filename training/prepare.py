"""Write frames of a source as shards. ``--help`` says how."""

import sys

from lemumo_core.cli.prepare import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
