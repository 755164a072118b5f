"""The OpenAPI document: what it says of each model, and schemathesis, which believes it.

schemathesis makes requests of what the document says, and of what it excludes, and looks whether
every answer is one that the document has.
"""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from golden_files import send
from golden_servers import Serve

V1, V2 = "/v1/models/{model}", "/v2/models/{model}"
INFER = f"{V2}/infer"


def document(serve: Serve, model: str, **settings: str) -> dict:
    answer = send(serve(model, "kserve", **settings).address, "GET", "/openapi.json")
    assert answer.status == 200
    return answer.json()


def schema(document: dict, path: str) -> dict:
    return document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]


@pytest.mark.parametrize(
    ("model", "settings", "offered"),
    [
        ("Total", {}, {f"{V1}:explain"}),
        ("Words", {}, {f"{V2}/generate", f"{V2}/generate_stream"}),
        ("Blob", {}, set()),
        (
            "Blob",
            {"OMI_ADMIN": "on"},
            {"/v2/repository/models/{model}/load", "/v2/repository/models/{model}/unload"},
        ),
    ],
)
def test_only_what_is_offered_is_described(
    model: str, settings: dict, offered: set, serve: Serve
) -> None:
    paths = set(document(serve, model, **settings)["paths"])
    always = {"/", "/v1/models", V1, f"{V1}:predict"}
    always |= {"/v2", "/v2/health/live", "/v2/health/ready", "/v2/models", "/v2/repository/index"}
    always |= {V2, f"{V2}/ready", INFER}
    versions = {path for path in paths if "/versions/{version}" in path}
    of_v2 = {path for path in always | offered if path.startswith(V2)}
    assert versions == {path.replace(V2, f"{V2}/versions/{{version}}") for path in of_v2}
    assert paths - versions == always | offered


def test_the_models_own_values_are_described(serve: Serve) -> None:
    described = document(serve, "Shop")
    schemas = described["components"]["schemas"]
    assert schemas["Instance"] == {
        "type": "object",
        "properties": {
            "prices": {
                "type": "array",
                "items": {
                    "type": "number",
                    "minimum": -1.7976931348623157e308,
                    "maximum": 1.7976931348623157e308,
                },
            },
            "customer": {"type": "string"},
            "stamp": {
                "type": "object",
                "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
                "required": ["b64"],
                "additionalProperties": False,
            },
        },
        "required": ["prices", "customer"],
        "additionalProperties": False,
    }
    receipt = schemas["Prediction"]["properties"]["receipt"]
    assert set(receipt["properties"]) == {"lines", "note"}
    tensors = schema(described, INFER)["properties"]["inputs"]["items"]["anyOf"]
    assert [
        (tensor["properties"]["name"]["const"], tensor["properties"]["datatype"]["const"])
        for tensor in tensors
    ] == [("prices", "FP64"), ("customer", "BYTES"), ("stamp", "BYTES")]


@pytest.mark.parametrize(("model", "least"), [("Shop", 2), ("Total", 1), ("Everything", None)])
def test_required_inputs_are_described_as_such(model: str, least: int | None, serve: Serve) -> None:
    inputs = schema(document(serve, model), INFER)["properties"]["inputs"]
    assert inputs.get("minItems") == least


@pytest.mark.parametrize(
    ("model", "names"),
    [("Total", ["total", "explain", "detect_drift"]), ("Shop", ["sum", "receipt", "scan"])],
)
def test_the_outputs_that_may_be_asked_for_are_described(
    model: str, names: list[str], serve: Serve
) -> None:
    output = schema(document(serve, model), INFER)["properties"]["outputs"]["items"]
    assert output["properties"]["name"] == {"enum": names}


def test_what_is_written_for_nan_is_described(serve: Serve) -> None:
    for policy, expected in (
        ("null", {"type": ["number", "null"]}),
        ("string", {"enum": ["NaN", "Infinity", "-Infinity"]}),
    ):
        described = document(serve, "Decimals", OMI_NAN=policy)
        prediction = described["components"]["schemas"]["Prediction"]
        assert expected in (prediction, prediction.get("anyOf", [None])[-1])


EXAMPLES = ("Total", "Words", "Document", "Blob", "Shop", "Datatypes", "Everything", "Tokens")


@pytest.mark.parametrize("model", EXAMPLES)
def test_every_example_can_be_sent_as_it_is(model: str, serve: Serve) -> None:
    described = document(serve, model)
    address = serve(model, "kserve").address
    sent = 0
    for path, operations in described["paths"].items():
        body = operations.get("post", {}).get("requestBody")
        if body is None:
            continue
        for parameter in operations["post"].get("parameters", []):
            if parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", parameter["example"])  # noqa: PLW2901
        example = body["content"]["application/json"]["example"]
        answer = httpx.post(f"http://{address}{path}", json=example, timeout=30)
        assert answer.status_code == 200, (path, answer.text)
        sent += 1
    assert sent >= 4


CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)
"""All but positive_data_acceptance: a schema cannot say that a tensor's data fit its shape."""


@pytest.mark.parametrize("model", ["Everything", "Words"])
def test_schemathesis_finds_no_answer_that_is_not_described(
    model: str, serve: Serve, tmp_path: Path
) -> None:
    url = f"http://{serve(model, 'kserve').address}/openapi.json"
    command = [sys.executable, "-m", "schemathesis.cli", "run", url, "--checks", ",".join(CHECKS)]
    options = ["--phases=examples,coverage,fuzzing", "--max-examples=10", "--seed=1"]
    done = subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=tmp_path,  # where it keeps what it learned
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[0-9]{3,} generated", done.stdout), done.stdout
