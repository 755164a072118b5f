"""Print what a pyproject.toml depends on, a line each: `python requirements.py pyproject.toml`."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
print("\n".join(sorted(project["dependencies"])))
