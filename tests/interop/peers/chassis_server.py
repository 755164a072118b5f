"""Build a model with chassis and serve it as its image would, without the image.

    python chassis_server.py DIRECTORY KIND

DIRECTORY is empty, KIND is single, batch or broken. The port is PSC_MODEL_PORT.
"""

import json
import os
import runpy
import sys
from pathlib import Path

from chassis.builder import BuildOptions
from chassisml import ChassisModel


def double(item):
    number = int(item["number"])
    if number == 13:
        raise ValueError("thirteen is refused")
    document = {"data": {"result": number * 2, "explanation": None, "drift": None}}
    return {"results.json": json.dumps(document).encode()}


def double_all(items):
    return [double(item) for item in items]


def build(directory, kind):
    if kind == "batch":
        model = ChassisModel(process_fn=double_all, batch_size=4)
    else:
        model = ChassisModel(process_fn=double)
    model.metadata.model_name = "Doubled by chassis"
    model.metadata.model_version = "1.2.3"
    model.metadata.add_input("number", ["text/plain"], "1k", "A whole number.")
    model.metadata.add_output("results.json", "application/json", "1k", "Its double.")
    model.prepare_context(BuildOptions(base_dir=str(directory)))
    if kind == "broken":
        (directory / "data" / "model.pkl").write_bytes(b"this is no pickle")


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    build(directory, sys.argv[2])
    os.chdir(directory)
    sys.path[0] = str(directory)
    runpy.run_path("entrypoint.py", run_name="__main__")
