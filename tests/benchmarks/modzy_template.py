"""`/run` with one small file beside modzy/python-model-template under gunicorn, in turns.

    git clone https://github.com/modzy/python-model-template
    python -m venv peer && peer/bin/pip install flask gunicorn humanfriendly python-box pyyaml numpy
    python tests/benchmarks/modzy_template.py python-model-template peer/bin/python

The template runs as its entrypoint has it, with one worker, its log at ERROR; its package asks
`collections` for what only `collections.abc` has since Python 3.10, which is mended from outside.
Both servers multiply the same four numbers by the same matrix. Needs `wrk`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from figures import ROW, Server, omi, wrk

MODEL = """
import json
import numpy as np
from flask_psc_model import ModelBase

class Linear(ModelBase):
    input_filenames = ["x.json"]
    output_filenames = ["results.json"]

    def __init__(self):
        self.weights = np.arange(12, dtype=np.float32).reshape(4, 3)

    def run(self, input_path, output_path):
        with open(input_path) as stream:
            x = np.asarray(json.load(stream), dtype=np.float32)
        data = {"result": (x @ self.weights).tolist(), "explanation": None, "drift": None}
        with open(output_path, "w") as stream:
            json.dump({"data": data}, stream)
"""
APP = (
    "from flask_psc_model import create_app\nfrom linear import Linear\napp = create_app(Linear)\n"
)
MENDED = "import collections, collections.abc\ncollections.Mapping = collections.abc.Mapping\n"
CARD = "timeout: {status: 60s, run: 60s}\n"


@contextlib.contextmanager
def template(checkout: Path, python: str, port: int) -> Iterator[Server]:
    """The template's server in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(checkout / "flask_psc_model", folder / "flask_psc_model")
        config = (checkout / "gunicorn.conf.py").read_text().replace("INFO", "ERROR")
        files = {"linear": MODEL, "app": APP, "sitecustomize": MENDED, "gunicorn.conf": config}
        for module, text in files.items():
            (folder / f"{module}.py").write_text(text)
        (folder / "model.yaml").write_text(CARD)
        environ = os.environ | {"PSC_MODEL_PORT": str(port), "PYTHONPATH": name}
        command = [python, "-m", "gunicorn", "--config", "gunicorn.conf.py", "app:app"]
        process = subprocess.Popen(command, cwd=folder, env=environ)
        try:
            _wait_for(port, process)
            # The worker, whose CPU time counts, is the only child of the arbiter.
            children = f"/proc/{process.pid}/task/{process.pid}/children"
            worker = int(re.findall(r"\d+", Path(children).read_text())[0])
            yield _Worker(process, port, worker)
        finally:
            process.terminate()
            process.wait(30)


class _Worker(Server):
    def __init__(self, process: subprocess.Popen[str], port: int, pid: int) -> None:
        super().__init__(process, port)
        self._pid = pid

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _wait_for(port: int, process: subprocess.Popen[str]) -> None:
    for _ in range(300):
        if process.poll() is not None:
            raise SystemExit("the template's server ended")
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/status"),
        ):
            return
        time.sleep(0.1)
    raise SystemExit("the template's server does not answer")


def measure(options: argparse.Namespace, place: str) -> None:
    """A line of the table, for jobs in one place."""
    with (
        tempfile.TemporaryDirectory(dir=place) as folder,
        template(options.template, options.python, options.port) as theirs,
        omi("modzy", "empty") as ours,
    ):
        Path(folder, "x.json").write_text(json.dumps(ROW))
        job = json.dumps({"type": "file", "input": folder, "output": f"{folder}/out"})
        turns = []
        for _ in range(options.turns):
            their_rate, their_cpu = wrk(theirs, "/run", job, options.connections, options.seconds)
            their_answer = _written(Path(folder, "out", "results.json"))
            rate, cpu = wrk(ours, "/run", job, options.connections, options.seconds)
            _check_same(their_answer, _written(Path(folder, "out", "results.json")))
            turns.append((rate, cpu, their_rate, their_cpu, rate / their_rate))
    rate, cpu, their_rate, their_cpu, ratio = map(statistics.median, zip(*turns, strict=True))
    ratios = [turn[4] for turn in turns]
    print(
        f"| {place} | {rate:,.0f} | {cpu:.0f} | {their_rate:,.0f} | {their_cpu:.0f} "
        f"| {ratio:.1f} ({min(ratios):.1f} to {max(ratios):.1f}) |"
    )


def _written(path: Path) -> list[float]:
    """The result in a file, once it is whole: the template writes in place."""
    for _ in range(100):
        with contextlib.suppress(json.JSONDecodeError):
            return json.loads(path.read_text())["data"]["result"]
        time.sleep(0.1)
    raise SystemExit(f"{path} is not whole")


def _check_same(theirs: list[float], ours: list[float]) -> None:
    if any(abs(one - other) > 1e-4 for one, other in zip(theirs, ours, strict=True)):
        raise SystemExit(f"the servers disagree: {theirs} and {ours}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("template", type=Path, help="a checkout of modzy/python-model-template")
    parser.add_argument("python", help="of an environment with what it needs")
    parser.add_argument("--port", type=int, default=18080, help="for the template's server")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each load")
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    print("| files in | requests/s | CPU us/request | template /s | its CPU us | ratio |")
    print("|---|---|---|---|---|---|")
    for place in ("/dev/shm", tempfile.gettempdir()):
        measure(options, place)
