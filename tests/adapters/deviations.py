"""Where KServe's Python server departs from the specification, and what is done here instead.

The page docs/interfaces/kserve.md shows this table, and a test fails when it does not. Every row
names the exchanges or tests that show what is done here. `python tests/adapters/deviations.py`
writes the table into the page.
"""

import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "interfaces" / "kserve.md"
BEGIN, END = "<!-- deviations: begin -->", "<!-- deviations: end -->"


@dataclass(frozen=True)
class Deviation:
    """One row.

    Attributes:
        about: what it is about.
        kserve: what kserve 0.20 does, as measured.
        here: what is done here.
        clause: what decides it.
        shown: where that is shown: `file.http: Model: Title`, or `test_file.py::test_name` by its
            path below tests/.
    """

    about: str
    kserve: str
    here: str
    clause: str
    shown: tuple[str, ...]


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
        '422 `{"detail": […]}`',
        '400 `{"error": "…"}`',
        f"{REST}: errors are an object with `error`, with a status of HTTP, typically 400",
        (V2 + "Inputs that are no objects", V2 + "A number for an id", V2 + "An empty body"),
    ),
    Deviation(
        "unknown routes and wrong methods",
        '`{"detail": "…"}`',
        '404 and 405 `{"error": "…"}`',
        f"{REST}: the same form for every error",
        (V2 + "A route that is not here", V2 + "The wrong method"),
    ),
    Deviation(
        "`/v2/health/ready`",
        "always true, also with no model left, and after SIGTERM",
        "true only if the model can infer and the process does not stop",
        f"{REST}: ready means that all models are ready for inferencing",
        (
            UNLOADING_TEST,
            DRAINING_TEST,
        ),
    ),
    Deviation(
        "a probe while `predict` runs",
        "waits for it",
        "is answered",
        f"{REST}: live means that the server can receive and answer requests",
        ("e2e/test_probes.py::test_probes_answer_while_a_prediction_runs",),
    ),
    Deviation(
        "paths with a version",
        "501",
        "served; another version is 404",
        f"{REST}: `/versions/{{version}}` is a part of the path that may be there",
        (V2 + "By version", V2 + "The model by its version", V2 + "A version that is not here"),
    ),
    Deviation(
        "`id`, `parameters`, `model_version` of an answer",
        "an invented id, nulls for the others",
        "`id` only if given, nothing null",
        f"{REST}: optional keys; the id is the request's",
        (V2 + "Flat data", V2 + "An id is echoed", V2 + "An empty id is an id"),
    ),
    Deviation(
        "wrong shape or size, a number out of range, no inputs",
        "500",
        "400 that names the input",
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
        "honoured over REST, ignored over gRPC",
        "honoured",
        f"{REST}: only the requested outputs are answered",
        (
            "kserve_v2.http: Shop: Only the outputs asked for, in the order asked for",
            V2 + "An output that the model does not have",
        ),
    ),
    Deviation(
        "gRPC: another `model_version`",
        "ignored",
        "NOT_FOUND",
        "OIP, open_inference_grpc.proto: the version of the model to use",
        (GRPC_TEST + "test_another_model_or_version_is_not_found",),
    ),
    Deviation(
        "gRPC: wrong shape or size, number out of range",
        "INTERNAL",
        "INVALID_ARGUMENT that names the input",
        "gRPC, status codes: INTERNAL is a fault of the server",
        (GRPC_TEST + "test_it_is_refused_with_the_reason",),
    ),
    Deviation(
        "gRPC: a model that fails",
        "INVALID_ARGUMENT, and 500 over REST",
        "INTERNAL",
        "gRPC, status codes: INVALID_ARGUMENT is a fault of the caller",
        (GRPC_TEST + "test_it_is_refused_with_the_reason",),
    ),
    Deviation(
        "gRPC: `ModelStreamInfer`, `RepositoryIndex`",
        "UNIMPLEMENTED",
        "are answered",
        "Triton, grpc_service.proto",
        (
            GRPC_TEST + "test_a_model_that_yields_answers_with_every_value",
            GRPC_TEST + "test_the_index_of_the_repository",
        ),
    ),
    Deviation(
        "gRPC: `RepositoryModelUnload`",
        "unloads and answers INTERNAL",
        "answers when it has unloaded, with `OMI_ADMIN=on`",
        "Triton, extension_model_repository.md",
        (GRPC_TEST + "test_loading_and_unloading",),
    ),
    Deviation(
        "gRPC: health, reflection",
        "none",
        "`grpc.health.v1`, reflection v1 and v1alpha",
        "what probes and tools of gRPC ask for",
        (GRPC_TEST + "test_health_by_every_name",),
    ),
    Deviation(
        "gRPC: the limit of a message",
        "8 MiB",
        "`OMI_MAX_REQUEST_BYTES`, 250 MiB",
        "one limit for every wire",
        (GRPC_TEST + "test_thirty_megabytes_both_ways",),
    ),
    Deviation(
        "gRPC: `double_param`, `uint64_param`, `properties`",
        "are not in the messages",
        "are",
        "OIP, open_inference_grpc.proto",
        (GRPC_TEST + "test_parameters_of_every_kind_are_taken",),
    ),
    Deviation(
        "`binary_data_output` beside `outputs`",
        "ignored",
        "holds for every output that says nothing else",
        f"{BINARY}: `binary_data` of an output overrides it",
        (
            IN_BINARY
            + "Total: The request's word holds for an output that is asked for without one",
            IN_BINARY + "Total: An output's own word is stronger than the request's",
        ),
    ),
    Deviation(
        "a binary answer",
        "has no Content-Type and no Content-Length",
        "has both",
        f"{BINARY}: the response's headers",
        (BINARY_TEST + "test_every_datatype_comes_back_bit_for_bit",),
    ),
    Deviation(
        "a binary request of `application/json`",
        '400 `{"detail": "…"}`',
        "is read, as with any other type or none",
        f"{BINARY}: the header Inference-Header-Content-Length says what it is",
        (
            IN_BINARY + "Total: With the Content-Type of JSON",
            IN_BINARY + "Total: Without a Content-Type",
        ),
    ),
    Deviation(
        "binary BYTES that are not UTF-8",
        "500",
        "any bytes, both ways",
        f"{BINARY}: an element of BYTES is its length and its bytes",
        (IN_BINARY + "Blob: Bytes that are no UTF-8, both ways",),
    ),
    Deviation(
        "the raw form, header length 0",
        "400",
        "the body is the input",
        f"{BINARY}: Raw Binary Request",
        (
            IN_BINARY + "Total: The raw form: no JSON, the batch size follows from the length",
            IN_BINARY + "Blob: The raw form of one element has no length before it",
        ),
    ),
    Deviation(
        "bytes after the last binary tensor",
        "ignored",
        "400",
        f"{BINARY}: the sizes of the tensors are that of the rest of the body",
        (IN_BINARY + "Total: Bytes that belong to nobody",),
    ),
    Deviation(
        "gzip and deflate",
        "400 for a compressed request, no compressed answer",
        "both ways, within the limits",
        "RFC 9110, 8.4 and 12.5.3; Triton's server has both",
        (
            COMPRESSION_TEST + "test_a_compressed_request_is_answered_as_any_other",
            COMPRESSION_TEST + "test_a_large_answer_is_compressed_if_that_is_asked_for",
        ),
    ),
    Deviation(
        "FP16 in JSON, BF16",
        "400 both ways, unknown",
        "numbers in JSON, an extension of ours; their own bits in binary",
        f"{REST}: FP16 and BF16 have no form in JSON there",
        (
            "kserve_v2.http: Datatypes: FP16 is rounded to the nearest",
            "kserve_v2.http: Datatypes: BF16 is rounded to the nearest",
            BINARY_TEST + "test_every_datatype_comes_back_bit_for_bit",
        ),
    ),
    Deviation(
        "`extensions` of the server",
        "`model_repository_extension`",
        "`binary_tensor_data`, and `generate` and `model_repository` where they are offered",
        "Triton's extension pages: the name that each is reported by",
        (
            V2 + "The server",
            "kserve_generate.http: Tokens: The server says that it has the extension",
            UNLOADING_TEST,
        ),
    ),
    Deviation(
        "`/v2/repository/index`, generate",
        "404",
        "answered",
        "Triton, extension_model_repository.md, extension_generate.md",
        (
            "kserve_repository.http: Total: The models that there are",
            "kserve_generate.http: Tokens: Text from text",
        ),
    ),
    Deviation(
        "`GET /v2/`",
        "307 to `/v2`",
        "answered as `/v2`",
        "OIP, open_inference_rest.yaml: `/v2/`",
        (V2 + "The server, as the specification's OpenAPI document has the path",),
    ),
    Deviation(
        "a V1 body of `application/json; charset=utf-8`, or curl's own type",
        "the model gets raw bytes",
        "JSON",
        "RFC 9110, 8.3.1: parameters do not change the media type",
        (
            "kserve_v1.http: Total: With a charset",
            "kserve_v1.http: Total: With the type that curl -d sends by itself",
        ),
    ),
    Deviation(
        "metadata of the model",
        '`"platform": ""`, `"versions": null`',
        "`omi_python`, and the version that there is",
        f"{REST}: platforms are `<project>_<format>`; `versions` may be left out",
        (V2 + "The model",),
    ),
    Deviation(
        "NaN and infinity in a JSON answer",
        "`null`, which nobody can tell from missing",
        "an error, or what `OMI_NAN` says",
        "RFC 8259, 6: they are no numbers of JSON",
        (
            "kserve_v2.http: Decimals: NaN, for which JSON has no word",
            "adapters/test_golden_kserve_v1.py::test_what_json_has_no_word_for",
        ),
    ),
    Deviation(
        "CloudEvents over V2",
        "their headers are mirrored, the body is not unwrapped",
        "answered by an event of their own, as over V1",
        "CloudEvents 1.0: source and id identify one event",
        (
            "kserve_events.http: Total: An event over V2",
            "kserve_events.http: Total: An event over V2 in structured mode, answered in binary",
        ),
    ),
]


def table() -> str:
    """The table as the page shows it."""
    lines = ["| | kserve 0.20 | here | because |", "|---|---|---|---|"]
    lines += [f"| {d.about} | {d.kserve} | {d.here} | {d.clause} |" for d in DEVIATIONS]
    return "\n".join(lines)


def on_page(text: str) -> str:
    """What stands on the page where the table belongs."""
    return text.partition(BEGIN)[2].partition(END)[0].strip()


if __name__ == "__main__":
    old = PAGE.read_text(encoding="utf-8")
    new = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table()}\n{END}", old, flags=re.DOTALL)
    PAGE.write_text(new, encoding="utf-8")
