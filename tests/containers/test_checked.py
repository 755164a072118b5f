"""`omi check image`: ours keep every rule, and a deliberately wrong one breaks each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clients import process
from clients.process import OMI

from containers.images import Images
from containers.podman import PREFIX

WRONG = """\
FROM {base}
LABEL ml.openmodel.interfaces='["kfserving"]' \\
      ml.openmodel.protocols='[["v1"]]' \\
      ml.openmodel.port='8080'
ENV HTTP_PORT=9000 INTERFACE=omi
CMD python -m http.server 8080 --directory /tmp
"""
"""Listens on its port, and is wrong in everything else. As a first process it ignores SIGTERM."""

NONSENSE = """\
FROM {base}
LABEL ml.openmodel.interfaces='["omi"]' \\
      ml.openmodel.protocols='["v3"]' \\
      ml.openmodel.port='http' \\
      ml.openml.model_name='x'
"""


def check(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code and the rows of omi check image, by their ids."""
    done = process.run(OMI, "check", "image", "--json", *arguments, seconds=300.0)
    assert done.out, str(done)
    content = json.loads(done.out)
    assert content["passed"] == (done.code == 0)
    return done.code, {row["id"]: row for row in content["rows"]}


def broken(rows: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, row in rows.items() if row["outcome"] == "failed"}


def test_ours_keeps_every_rule(images: Images) -> None:
    code, rows = check(images.model("iris"))
    assert broken(rows) == set(), [rows[name] for name in broken(rows)]
    assert code == 0
    assert {row["outcome"] for row in rows.values()} == {"passed"}
    for spoken in ("kfserving.v1", "kfserving.v2", "modzy.v1", "modzy.v2"):
        assert rows[f"image.{spoken}.answers"]["outcome"] == "passed"
        assert rows[f"image.{spoken}.exit"]["outcome"] == "passed"
    asked = {"kserve.v2.infer (kfserving v2)", "omi.run.count (modzy v2)"}
    assert asked <= set(rows)


def test_one_by_a_dockerfile_of_its_own_keeps_every_rule(images: Images) -> None:
    code, rows = check(images.model("colours"), "--no-run")
    assert broken(rows) == set(), [rows[name] for name in broken(rows)]
    assert code == 0


def test_the_runtimes_own_image_lacks_a_model_and_its_name(images: Images) -> None:
    _, rows = check(f"{images.runtime}:latest", "--no-run")
    assert broken(rows) == {"image.name", "image.tag"}
    assert rows["image.name"]["note"].endswith("LABEL ml.openml.model_name=…")


def test_a_wrong_image_breaks_every_rule(images: Images) -> None:
    tag = f"{PREFIX}-wrong:latest"
    build(images, tag, WRONG)
    code, rows = check(tag, "--max-size=1")
    assert code == 1
    assert broken(rows) == {
        "image.entrypoint",
        "image.env",
        "image.expose",
        "image.kfserving.v1.exit",
        "image.name",
        "image.size",
        "image.tag",
        "image.user",
        "kserve.routes (kfserving v1)",
        *(
            f"kserve.v1.{name} (kfserving v1)"
            for name in ["instances", "list", "malformed", "ready"]
        ),
        "kserve.v1.unknown (kfserving v1)",
    }
    assert "9000" in rows["image.env"]["note"]
    assert "137" in rows["image.kfserving.v1.exit"]["note"]


def test_labels_of_nonsense_are_named(images: Images) -> None:
    tag = f"{PREFIX}-nonsense:1"
    build(images, tag, NONSENSE)
    code, rows = check(tag, "--no-run")
    assert code == 1
    assert {"image.interfaces", "image.port", "image.protocols"} <= broken(rows)
    assert "'omi'" in rows["image.interfaces"]["note"]
    assert "'http', no port" in rows["image.port"]["note"]


def test_what_is_no_image_is_told() -> None:
    done = process.run(OMI, "check", "image", "localhost/omi-test-not-there:1")
    assert done.code == 2
    assert "localhost/omi-test-not-there:1" in done.err


def build(images: Images, tag: str, dockerfile: str) -> None:
    context = images.folder / "wrong"
    context.mkdir(exist_ok=True)
    file: Path = context / "Dockerfile"
    file.write_text(dockerfile.format(base=images.base))
    images.build(context, tag)
