"""Where KServe's Python server departs from the specification, and what is done here instead.

The page docs/interfaces/kserve.md shows this table, and a test fails when it does not. What a row
is about and what decides it stands here; what stands in its two cells is observed: `make
deviations` asks both servers (tests/interop/observing/), writes what they do into deviations.json,
and the table into the page. tests/interop/test_deviations_observed.py observes all of it again.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
OBSERVED = HERE / "deviations.json"
PAGE = HERE.parent / "docs" / "interfaces" / "kserve.md"
BEGIN, END = "<!-- deviations: begin -->", "<!-- deviations: end -->"


class Cells(NamedTuple):
    """What was observed: of KServe's server, and of this one."""

    kserve: str
    here: str


@dataclass(frozen=True)
class Deviation:
    """One row.

    Attributes:
        about: what it is about; its function in tests/interop/observing/ has the same name.
        clause: what decides it.
        shown: what else shows our side: `file.http: Model: Title`, or `test_file.py::test_name` by
            its path below tests/.
    """

    about: str
    clause: str
    shown: tuple[str, ...]

    @property
    def cells(self) -> Cells:
        """What was observed; empty if nothing was."""
        return Cells(**_read()["rows"].get(self.about, {"kserve": "", "here": ""}))


REST = "OIP, inference_rest.md"
BINARY = "Triton, extension_binary_data.md"
V2 = "kserve_v2.http: Total: "
IN_BINARY = "kserve_binary.http: "
BINARY_TEST = "adapters/test_golden_kserve_binary.py::"
COMPRESSION_TEST = "e2e/test_compression.py::"
GRPC_TEST = "adapters/test_golden_kserve_grpc.py::"
UNLOADING_TEST = (
    "adapters/test_kserve_repository.py::"
    "test_unloading_waits_for_what_is_in_flight_and_every_route_tells_the_truth"
)
DRAINING_TEST = (
    "conformance/test_every_health.py::test_while_draining_it_is_live_not_ready_and_still_answers"
)

DEVIATIONS = [
    Deviation(
        "a request that fails validation",
        f"{REST}: errors are an object with `error`, with a status of HTTP, typically 400",
        (V2 + "Inputs that are no objects", V2 + "A number for an id", V2 + "An empty body"),
    ),
    Deviation(
        "unknown routes and wrong methods",
        f"{REST}: the same form for every error",
        (V2 + "A route that is not here", V2 + "The wrong method"),
    ),
    Deviation(
        "`/v2/health/ready`",
        f"{REST}: ready means that all models are ready for inferencing",
        (
            UNLOADING_TEST,
            DRAINING_TEST,
        ),
    ),
    Deviation(
        "a probe while `predict` runs",
        f"{REST}: live means that the server can receive and answer requests",
        ("e2e/test_probes.py::test_probes_answer_while_a_prediction_runs",),
    ),
    Deviation(
        "paths with a version",
        f"{REST}: `/versions/{{version}}` is a part of the path that may be there",
        (V2 + "By version", V2 + "The model by its version", V2 + "A version that is not here"),
    ),
    Deviation(
        "`id`, `parameters`, `model_version` of an answer",
        f"{REST}: optional keys; the id is the request's",
        (V2 + "Flat data", V2 + "An id is echoed", V2 + "An empty id is an id"),
    ),
    Deviation(
        "wrong shape or size, a number out of range, no inputs",
        f"{REST}: 500 is a fault of the server",
        (
            V2 + "Too few elements",
            V2 + "No input at all",
            "kserve_v2.http: Datatypes: INT8 and 128",
            IN_BINARY + "Total: Too few bytes",
            IN_BINARY + "Total: A header length that is no number",
            IN_BINARY + "Total: Neither form",
        ),
    ),
    Deviation(
        "`outputs` of a request",
        f"{REST}: only the requested outputs are answered",
        (
            "kserve_v2.http: Shop: Only the outputs asked for, in the order asked for",
            V2 + "An output that the model does not have",
        ),
    ),
    Deviation(
        "gRPC: another `model_version`",
        "OIP, open_inference_grpc.proto: the version of the model to use",
        (GRPC_TEST + "test_another_model_or_version_is_not_found",),
    ),
    Deviation(
        "gRPC: wrong shape or size, number out of range",
        "gRPC, status codes: INTERNAL is a fault of the server",
        (GRPC_TEST + "test_it_is_refused_with_the_reason",),
    ),
    Deviation(
        "gRPC: a model that fails",
        "gRPC, status codes: INVALID_ARGUMENT is a fault of the caller",
        (GRPC_TEST + "test_it_is_refused_with_the_reason",),
    ),
    Deviation(
        "gRPC: a model that is not ready",
        "gRPC, status codes: UNAVAILABLE may be tried again, UNKNOWN tells nothing",
        (GRPC_TEST + "test_loading_and_unloading",),
    ),
    Deviation(
        "gRPC: `ModelStreamInfer`, `RepositoryIndex`",
        "Triton, grpc_service.proto",
        (
            GRPC_TEST + "test_a_model_that_yields_answers_with_every_value",
            GRPC_TEST + "test_the_index_of_the_repository",
        ),
    ),
    Deviation(
        "gRPC: `RepositoryModelUnload`",
        "Triton, extension_model_repository.md",
        (GRPC_TEST + "test_loading_and_unloading",),
    ),
    Deviation(
        "gRPC: health, reflection",
        "what probes and tools of gRPC ask for",
        (GRPC_TEST + "test_health_by_every_name",),
    ),
    Deviation(
        "gRPC: the limit of a message",
        "one limit for every wire",
        (GRPC_TEST + "test_thirty_megabytes_both_ways",),
    ),
    Deviation(
        "gRPC: `double_param`, `uint64_param`, `properties`",
        "OIP, open_inference_grpc.proto",
        (GRPC_TEST + "test_parameters_of_every_kind_are_taken",),
    ),
    Deviation(
        "`binary_data_output` beside `outputs`",
        f"{BINARY}: `binary_data` of an output overrides it",
        (
            IN_BINARY
            + "Total: The request's word holds for an output that is asked for without one",
            IN_BINARY + "Total: An output's own word is stronger than the request's",
        ),
    ),
    Deviation(
        "a binary answer",
        f"{BINARY}: the response's headers",
        (BINARY_TEST + "test_every_datatype_comes_back_bit_for_bit",),
    ),
    Deviation(
        "a binary request of `application/json`",
        f"{BINARY}: the header Inference-Header-Content-Length says what it is",
        (
            IN_BINARY + "Total: With the Content-Type of JSON",
            IN_BINARY + "Total: Without a Content-Type",
        ),
    ),
    Deviation(
        "binary BYTES that are not UTF-8",
        f"{BINARY}: an element of BYTES is its length and its bytes",
        (IN_BINARY + "Blob: Bytes that are no UTF-8, both ways",),
    ),
    Deviation(
        "the raw form, header length 0",
        f"{BINARY}: Raw Binary Request",
        (
            IN_BINARY + "Total: The raw form: no JSON, the batch size follows from the length",
            IN_BINARY + "Blob: The raw form of one element has no length before it",
        ),
    ),
    Deviation(
        "bytes after the last binary tensor",
        f"{BINARY}: the sizes of the tensors are that of the rest of the body",
        (IN_BINARY + "Total: Bytes that belong to nobody",),
    ),
    Deviation(
        "gzip and deflate",
        "RFC 9110, 8.4 and 12.5.3; Triton's server has both",
        (
            COMPRESSION_TEST + "test_a_compressed_request_is_answered_as_any_other",
            COMPRESSION_TEST + "test_a_large_answer_is_compressed_if_that_is_asked_for",
        ),
    ),
    Deviation(
        "FP16 in JSON, BF16",
        f"{REST}: FP16 and BF16 have no form in JSON there",
        (
            "kserve_v2.http: Datatypes: FP16 is rounded to the nearest",
            "kserve_v2.http: Datatypes: BF16 is rounded to the nearest",
            BINARY_TEST + "test_every_datatype_comes_back_bit_for_bit",
        ),
    ),
    Deviation(
        "`extensions` of the server",
        "Triton's extension pages: the name that each is reported by",
        (
            V2 + "The server",
            "kserve_generate.http: Tokens: The server says that it has the extension",
            UNLOADING_TEST,
        ),
    ),
    Deviation(
        "`/v2/repository/index`, generate",
        "Triton, extension_model_repository.md, extension_generate.md",
        (
            "kserve_repository.http: Total: The models that there are",
            "kserve_generate.http: Tokens: Text from text",
        ),
    ),
    Deviation(
        "`GET /v2/`",
        "OIP, open_inference_rest.yaml: `/v2/`",
        (V2 + "The server, as the specification's OpenAPI document has the path",),
    ),
    Deviation(
        "a V1 body of `application/json; charset=utf-8`, or curl's own type",
        "RFC 9110, 8.3.1: parameters do not change the media type",
        (
            "kserve_v1.http: Total: With a charset",
            "kserve_v1.http: Total: With the type that curl -d sends by itself",
        ),
    ),
    Deviation(
        "metadata of the model",
        f"{REST}: platforms are `<project>_<format>`; `versions` may be left out",
        (V2 + "The model",),
    ),
    Deviation(
        "NaN and infinity in a JSON answer",
        "RFC 8259, 6: they are no numbers of JSON",
        (
            "kserve_v2.http: Decimals: NaN, for which JSON has no word",
            "adapters/test_golden_kserve_v1.py::test_what_json_has_no_word_for",
        ),
    ),
    Deviation(
        "CloudEvents over V2",
        "CloudEvents 1.0: source and id identify one event",
        (
            "kserve_events.http: Total: An event over V2",
            "kserve_events.http: Total: An event over V2 in structured mode, answered in binary",
        ),
    ),
]


def table() -> str:
    """The table as the page shows it."""
    lines = [f"| | kserve {version()} | here | because |", "|---|---|---|---|"]
    lines += [f"| {d.about} | {d.cells.kserve} | {d.cells.here} | {d.clause} |" for d in DEVIATIONS]
    return "\n".join(lines)


def on_page(text: str) -> str:
    """What stands on the page where the table belongs."""
    return text.partition(BEGIN)[2].partition(END)[0].strip()


def version() -> str:
    """The version of KServe's SDK that was observed."""
    return str(_read()["kserve"])


def write_version(number: str) -> None:
    """Note what was observed, and show it on the page."""
    _write(_read() | {"kserve": number})


def write_cells(about: str, cells: Cells) -> None:
    """Note what was observed of a row, and show it on the page."""
    observed = _read()
    observed["rows"][about] = cells._asdict()
    _write(observed)


def _read() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(OBSERVED.read_text(encoding="utf-8"))
    return content


def _write(observed: dict[str, Any]) -> None:
    rows = {d.about: observed["rows"][d.about] for d in DEVIATIONS if d.about in observed["rows"]}
    text = json.dumps(observed | {"rows": rows}, indent=2, ensure_ascii=False)
    OBSERVED.write_text(f"{text}\n", encoding="utf-8")
    old = PAGE.read_text(encoding="utf-8")
    new = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table()}\n{END}", old, flags=re.DOTALL)
    PAGE.write_text(new, encoding="utf-8")
