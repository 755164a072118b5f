"""`python -m omi_runtime` is `omi serve`."""

import sys

from omi_runtime.cli import main

raise SystemExit(main(["serve", *sys.argv[1:]]))
