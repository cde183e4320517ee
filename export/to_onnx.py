"""Write a model package. ``--help`` says how."""

import sys

from lemumo_core.cli.to_onnx import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
