"""Modzy's Python model template: its Flask package under gunicorn, with one worker.

It is on no package index: MODZY_TEMPLATE names a clone of modzy/python-model-template.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

PACKAGE = "gunicorn"
REQUIREMENTS = ("flask", "gunicorn", "pyyaml", "humanfriendly", "python-box", "numpy", "click")
OPENS_GRPC_ONLY = False

_APP = """
import json
import sys
sys.path[:0] = [{template!r}, {functions!r}]
import functions
import numpy as np
from flask_psc_model import ModelBase, create_app


class Served(ModelBase):
    input_filenames = ["x.json"]
    output_filenames = ["results.json"]

    def __init__(self):
        self.function = functions.load({model!r})

    def run(self, input_path, output_path):
        with open(input_path) as file:
            row = np.array(json.load(file), dtype=np.float32)
        content = {{"data": {{"result": self.function(row).tolist()}}}}
        content["data"] |= {{"explanation": None, "drift": None}}
        with open(output_path, "w") as file:
            json.dump(content, file)


app = create_app(Served)
"""


def prepare() -> str | None:
    """Why it cannot run here."""
    template = os.environ.get("MODZY_TEMPLATE", "")
    if not Path(template, "flask_psc_model").is_dir() or not template:
        return "MODZY_TEMPLATE names no clone of modzy/python-model-template"
    return None


def serve(model: str, http_port: str, _grpc_port: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="modzy-template-"))
    app = _APP.format(
        template=str(Path(os.environ["MODZY_TEMPLATE"]).resolve()),
        functions=str(Path(__file__).parent.parent),
        model=model,
    )
    (folder / "app.py").write_text(app)
    (folder / "model.yaml").write_text("timeout: {status: 60s, run: 60s}\n")
    os.chdir(folder)
    program = str(Path(sys.executable).parent / "gunicorn")
    where = ["--workers", "1", "--bind", f"127.0.0.1:{http_port}"]
    os.execv(program, [program, *where, "--log-level", "error", "app:app"])


if __name__ == "__main__":
    serve(*sys.argv[1:])
