"""Hold two backends of a package equal. ``--help`` says how."""

import sys

from lemumo_core.export.verify import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
