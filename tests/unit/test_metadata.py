"""model.yaml of specifications 0.3 and 0.4: what is read, and errors that name line and field."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from omi_runtime.errors import LoadError
from omi_runtime.metadata import Manifest, read_manifest

Write = Callable[..., Path]

V04 = """
    specification: "0.4"
    type: grpc
    source: a repository
    version: 1.2.3
    name: Iris
    author: The authors
    description:
      summary: In short.
      details: At length.
      technical: In depth.
      performance: 98 %.
    releaseNotes: none
    tags: [classification, tabular]
    metrics:
      - label: Accuracy
    inputs:
      measurements.json:
        acceptedMediaTypes: [application/json]
        maxSize: 5M
        description: Four numbers.
    outputs:
      results.json:
        mediaType: application/json
        maxSize: 1M
        description: The species.
    resources:
      memory: {size: 512M}
      cpu: {count: 0.5}
      gpu: {count: 1}
    timeout:
      status: 60s
      run: 1m30s
    features:
      adversarialDefense: true
      maxBatchSize: 256
      retrainable: true
      resultsFormat: a
      driftFormat: b
      explanationFormat: c
"""

V03 = """
    specification: '0.3'
    type: file
    source: ''
    version: 0.1.0
    name: Old
    author: Somebody
    description: {summary: Old., details: , technical: , performance: }
    releaseNotes:
    tags: []
    filters: []
    metrics: []
    inputs:
      input.txt:
        acceptedMediaTypes: [text/plain]
        maxSize: 1M
        description: Text.
    outputs:
      results.json: {mediaType: application/json, maxSize: 1M, description: A result.}
    resources: {memory: {size: 256M}, cpu: {count: 1}, gpu: {count: 0}}
    timeout: {status: 20s, run: 20s}
    internal:
      recommended: false
      features: {explainable: true, adversarialDefense: true}
"""


def manifest(write: Write, text: str) -> Manifest:
    read = read_manifest(write(**{"model.yaml": text}))
    assert read is not None
    return read


def test_every_field_of_0_4(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    read = manifest(write, V04)
    assert read.model_dump() == {
        "specification": "0.4",
        "type": "grpc",
        "source": "a repository",
        "version": "1.2.3",
        "name": "Iris",
        "author": "The authors",
        "description": {
            "summary": "In short.",
            "details": "At length.",
            "technical": "In depth.",
            "performance": "98 %.",
        },
        "tags": ("classification", "tabular"),
        "inputs": {
            "measurements.json": {
                "accepted_media_types": ("application/json",),
                "max_size": "5M",
                "description": "Four numbers.",
            }
        },
        "outputs": {
            "results.json": {
                "media_type": "application/json",
                "max_size": "1M",
                "description": "The species.",
            }
        },
        "resources": {"memory": {"size": "512M"}, "cpu": {"count": 0.5}, "gpu": {"count": 1}},
        "timeout": {"status": "60s", "run": "1m30s"},
        "features": {
            "adversarial_defense": True,
            "max_batch_size": 256,
            "retrainable": True,
            "results_format": "a",
            "drift_format": "b",
            "explanation_format": "c",
        },
        "internal": {"features": {"explainable": False, "adversarial_defense": False}},
    }
    assert not caplog.records


def test_a_file_of_0_3(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    read = manifest(write, V03)
    assert (read.specification, read.type, read.version) == ("0.3", "file", "0.1.0")
    assert read.description.details == ""
    assert read.features.max_batch_size is None
    assert read.internal.features.explainable
    assert read.internal.features.adversarial_defense
    assert not caplog.records


def test_the_specification_alone_is_enough(write: Write) -> None:
    read = manifest(write, "specification: '0.4'")
    assert (read.type, read.version, read.inputs, read.timeout.run) == (None, "", {}, "")


@pytest.mark.parametrize("text", ["specification: 0.4", 'specification: "0.4"'])
def test_the_specification_needs_no_quotes(write: Write, text: str) -> None:
    assert manifest(write, text).specification == "0.4"


def test_a_key_without_a_value_is_left_out(write: Write) -> None:
    read = manifest(write, "specification: '0.4'\nname:\nfeatures:\n  maxBatchSize:\ntimeout:\n")
    assert (read.name, read.features.max_batch_size, read.timeout.run) == ("", None, "")


def test_numbers_become_text_where_text_is_meant(write: Write) -> None:
    assert manifest(write, "specification: '0.4'\nversion: 2\nname: 7").version == "2"


def test_a_directory_without_a_file_has_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x", "line 1: specification: Field required"),
        ("specification: '0.5'", "line 1: specification: Input should be '0.3' or '0.4'"),
        ("specification: '0.4'\ntype: rest", "line 2: type: Input should be 'file' or 'grpc'"),
        (
            "specification: '0.4'\nresources:\n  memory: {size: 1G}\n  gpu:\n    count: half",
            "line 5: resources.gpu.count: Input should be a valid integer",
        ),
        (
            "specification: '0.4'\nfeatures: {maxBatchSize: 0}",
            "line 2: features.maxBatchSize: Input should be greater than or equal to 1",
        ),
        (
            "specification: '0.4'\n\ninputs:\n  a.json:\n    acceptedMediaTypes: text/plain",
            "line 5: inputs.a.json.acceptedMediaTypes: Input should be a valid",
        ),
        (
            "specification: '0.4'\ntags:\n  - a\n  - [b]",
            "line 4: tags.1: Input should be a valid string",
        ),
        ("specification: '0.4'\ninputs: [a]", "line 2: inputs: Input should be a valid dict"),
        (
            "specification: '0.4'\ntimeout:\n  run: soon",
            "line 3: timeout.run: Value error, 'soon' is no time span: write for example 20s",
        ),
        (
            "specification: '0.4'\nresources:\n  memory:\n    size: lots",
            "line 4: resources.memory.size: Value error, 'lots' is no size: write for example 512K",
        ),
        (
            "specification: '0.4'\nresources:\n  cpu: {count: -1}",
            "line 3: resources.cpu.count: Input should be greater than or equal to 0",
        ),
        (
            "specification: '0.4'\nresources:\n  cpu: {count: .nan}",
            "line 3: resources.cpu.count: Input should be a finite number",
        ),
        (
            "specification: '0.4'\nresources:\n  cpu: {count: .inf}",
            "line 3: resources.cpu.count: Input should be a finite number",
        ),
        (
            "specification: '0.4'\nresources:\n  gpu: {count: -2}",
            "line 3: resources.gpu.count: Input should be greater than or equal to 0",
        ),
        ("specification: '0.4'\ntimeout: {run: 20}", "'20' is no time span: write for example"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_field(
    write: Write, text: str, message: str
) -> None:
    with pytest.raises(LoadError) as refused:
        manifest(write, text)
    assert message in str(refused.value)
    assert "model.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["a: [", "a: 1\n  b: 2", "\t- a", "- a\n- b", "just text", "", "a: 1\n---\nb: 2", "? [a]\n: b",
     "releaseNotes: 2026-13-45", "a: !!python/object:os.system x", "a: *b"],
)  # fmt: skip
def test_what_is_no_yaml_mapping_is_an_error_of_the_load(write: Write, text: str) -> None:
    with pytest.raises(
        LoadError, match=r"model\.yaml (cannot be read|holds no mapping)"
    ) as refused:
        manifest(write, text)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_text_is_an_error_of_the_load(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_bytes(b"name: \xff")
    with pytest.raises(LoadError, match="cannot be read"):
        read_manifest(tmp_path)


def test_a_misspelt_key_is_warned_of_with_the_nearest(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    manifest(write, "specification: '0.4'\nfeaturs: {}\nwhatever: 1\n")
    first, second = (record.getMessage() for record in caplog.records)
    assert first.endswith("model.yaml, line 2: featurs is ignored: did you mean features?")
    assert second.endswith("model.yaml, line 3: whatever is ignored")
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_a_misspelt_key_is_found_however_deep(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    text = """\
specification: '0.3'
description: {sumary: x}
inputs:
  features:
    maxsize: 5M
outputs:
  results.json: {mediaTypes: text/plain}
resources:
  memry: {size: 1G}
  cpu: {count: 1, cores: 2}
timeout: {runs: 1s}
internal:
  recommended: true
  features: {explainabel: true}
"""
    manifest(write, text)
    told = [record.getMessage().partition("model.yaml, line ")[2] for record in caplog.records]
    assert told == [
        "2: description.sumary is ignored: did you mean summary?",
        "5: inputs.features.maxsize is ignored: did you mean maxSize?",
        "7: outputs.results.json.mediaTypes is ignored: did you mean mediaType?",
        "9: resources.memry is ignored: did you mean memory?",
        "10: resources.cpu.cores is ignored",
        "11: timeout.runs is ignored: did you mean run?",
        "14: internal.features.explainabel is ignored: did you mean explainable?",
    ]


@pytest.mark.parametrize("section", ["inputs", "outputs"])
def test_a_max_size_that_is_none_is_told_with_its_line(section: str, tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text(
        f"specification: '0.4'\n{section}:\n  a:\n    maxSize: plenty\n"
    )
    place = rf"line 4: {section}\.a\.maxSize: .*'plenty' is no size"
    with pytest.raises(LoadError, match=place):
        read_manifest(tmp_path)


def test_a_list_whose_members_are_left_out_is_empty(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text(
        "specification: '0.3'\ntags:\n-\ninputs:\n  a:\n    acceptedMediaTypes:\n    -\n"
    )
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert manifest.tags == ()
    assert manifest.inputs["a"].accepted_media_types == ()
