"""Log lines on stderr, of our own loggers and nobody else's."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import contextvars, logging, sys
from omi_runtime import logs, request
root = logging.StreamHandler(sys.stdout)
logging.getLogger().addHandler(root)
logs.configure({level!r}, {form!r}, packages=["omi_kserve"])
ours = logging.getLogger("omi_runtime.serve")
ours.debug("a debug line")
ours.info("an %s line", "info")
try:
    1 / 0
except ZeroDivisionError:
    ours.exception("it broke")
logging.getLogger("omi_kserve.errors").warning("an adapter's line")
logging.getLogger("uvicorn.error").info("a server's line")
logging.getLogger("uvicorn.access").info("GET /")
logging.getLogger("author").warning("the author's line")
logs.configure({level!r}, {form!r}, packages=["omi_kserve"])
with_request = contextvars.copy_context()
with_request.run(request.WORKED_ON.set, [request.RequestContext(request_id="abc")])
with_request.run(ours.warning, "about a request")
ours.warning("told once")
"""


def run(level: str = "info", form: str = "text") -> tuple[list[str], str]:
    script = SCRIPT.format(level=level, form=form)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stderr.splitlines(), done.stdout


def test_text_lines_have_time_level_logger_and_message() -> None:
    lines, _ = run()
    time, level, logger, message = lines[0].split(" ", 3)
    assert len(time) == len("2026-01-31T12:00:00.000Z")
    assert (time[10], time[-1]) == ("T", "Z")
    assert (level, logger, message) == ("INFO", "omi_runtime.serve:", "an info line")
    assert "ZeroDivisionError: division by zero" in lines
    assert sum("told once" in line for line in lines) == 1
    assert "WARNING omi_runtime.serve: [abc] about a request" in "\n".join(lines)


def test_json_lines_are_one_object_each() -> None:
    lines, _ = run(form="json")
    records = [json.loads(line) for line in lines]
    assert [record["message"] for record in records] == [
        "an info line",
        "it broke",
        "an adapter's line",
        "about a request",
        "told once",
    ]
    assert [record.get("request_id") for record in records] == [None, None, None, "abc", None]
    assert list(records[0]) == ["time", "level", "logger", "message"]
    assert records[0]["time"].endswith("Z")
    assert records[0]["level"] == "info"
    assert records[1]["exception"].endswith("ZeroDivisionError: division by zero")


def test_the_authors_logging_is_left_alone() -> None:
    lines, stdout = run()
    assert stdout == "the author's line\n"
    assert not any("author's" in line for line in lines)


@pytest.mark.parametrize(
    ("level", "shown", "hidden"),
    [
        ("debug", ["a debug line", "an info line", "a server's line"], ["GET /"]),
        ("info", ["an info line", "an adapter's line"], ["a debug line", "a server's line"]),
        ("warning", ["an adapter's line", "it broke"], ["an info line", "a server's line"]),
        ("error", ["it broke"], ["an adapter's line", "told once"]),
    ],
)
def test_the_level_is_the_least_severe_that_is_shown(
    level: str, shown: list[str], hidden: list[str]
) -> None:
    text = "\n".join(run(level)[0])
    assert all(message in text for message in shown)
    assert not any(message in text for message in hidden)
