"""Runs a config: python run.py --config=configs/digits_poly.py; see jaxnoise/cli.py."""

import sys

from jaxnoise.cli import main

if __name__ == "__main__":
    sys.exit(main())
