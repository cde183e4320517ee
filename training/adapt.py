"""Run ``lemumo adapt`` from a clone, which ``make setup`` has installed."""

import sys

try:
    from lemumo_core.cli.main import main
except ModuleNotFoundError as error:
    sys.exit(f"{error}; run make setup, or: pip install --editable '.[train]'")

if __name__ == "__main__":
    sys.exit(main(["adapt", *sys.argv[1:]]))
