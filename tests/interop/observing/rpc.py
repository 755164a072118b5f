"""Rows about V2 over gRPC."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
from google.protobuf import descriptor_pb2
from omi_kserve._pb import open_inference_pb2 as pb

from observing.rest import echoed, infer, tensor
from observing.rows import row
from observing.sides import Running, Side
from observing.words import chosen, code, codes, naming, statuses
from omi_runtime.settings import Settings
from omi_runtime.transport._pb import health_pb2, reflection_pb2, reflection_v1alpha_pb2

MEBIBYTE = 2**20
INT8 = {"name": "int8", "datatype": "INT8", "shape": [1]}
NEW_FIELDS = {"double_param", "uint64_param", "properties"}


def typed(*values: int, shape: tuple[int, ...] = (2, 2), **changed: Any) -> dict[str, Any]:
    """The inputs of a request to Total."""
    one = {"name": "values", "datatype": "INT32", "shape": shape} | changed
    return {"inputs": [one | {"contents": {"int_contents": values}}]}


def raw(*tensors: tuple[str, bytes], **more: Any) -> dict[str, Any]:
    """A request to Datatypes with raw tensors, each of one item."""
    inputs = [{"name": name.lower(), "datatype": name, "shape": [1]} for name, _ in tensors]
    return {"inputs": inputs, "raw_input_contents": [content for _, content in tensors]} | more


def elements(answer: Any) -> list[int]:
    """Of the one output of Total."""
    return list(answer.outputs[0].contents.int64_contents)


@row("`outputs` of a request")
def outputs(side: Side) -> str:
    datatypes = side.ask("datatypes")
    two = [echoed(datatype, 1)["inputs"][0] for datatype in ("INT8", "INT32")]
    over_rest = datatypes.infer({"inputs": two, "outputs": [{"name": "int32"}]}).json()
    sent = (("INT8", bytes(1)), ("INT32", bytes(4)))
    over_grpc = datatypes.call("ModelInfer", **raw(*sent, outputs=[{"name": "int32"}]))
    seen = ([one["name"] for one in over_rest["outputs"]], [one.name for one in over_grpc.outputs])
    honoured = tuple(names == ["int32"] for names in seen)
    return chosen(
        honoured, {(True, True): "honoured", (True, False): "honoured over REST, ignored over gRPC"}
    )


@row("gRPC: another `model_version`")
def version(side: Side) -> str:
    answer = side.ask("total").call("ModelInfer", **typed(1, 2, 3, 4), model_version="9")
    ignored = code(answer) == "OK" and elements(answer) == [3, 7]
    return "ignored" if ignored else code(answer)


@row("gRPC: wrong shape or size, number out of range")
def sizes(side: Side) -> str:
    total = side.ask("total")
    answers = (
        total.call("ModelInfer", **typed(1, 2, 3, 4, shape=(2, 3))),
        total.call("ModelInfer", **typed(1, 2, 3)),
        side.ask("datatypes").call(
            "ModelInfer", inputs=[INT8 | {"contents": {"int_contents": [128]}}]
        ),
    )
    named = ("int8" in text or "values" in text for text in (one.details() for one in answers))
    return codes(*answers) + naming(named)


@row("gRPC: a model that fails")
def failure(side: Side) -> str:
    total = side.ask("total")
    failed = total.call("ModelInfer", **typed(666, 2, 3, 4))
    reason = "with" if "the beast" in failed.details() else "without"
    told = f"{code(failed)} {reason} the reason"
    if not side.kserve:
        return told
    of_its_own = total.call("ModelInfer", **typed(667, 2, 3, 4))
    over_rest = total.infer(infer(inputs=[tensor(data=[667, 2, 3, 4])]))
    return (
        f"{told}; for KServe's `InferenceError` {code(of_its_own)}, and {statuses(over_rest)} "
        "over REST"
    )


@row("gRPC: a model that is not ready")
def unready(side: Side) -> str:
    if side.kserve:  # where nothing but the model says it
        return code(side.ask("total").call("ModelInfer", **typed(668, 2, 3, 4)))
    with side.fresh("total", OMI_ADMIN="on") as total:
        assert total.post("/v2/repository/models/total/unload").is_success
        return code(total.call("ModelInfer", **typed(1, 2, 3, 4)))


@row("gRPC: `ModelStreamInfer`, `RepositoryIndex`")
def methods_of_triton(side: Side) -> str:
    total = side.ask("total")
    stream = total.rpc.channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        pb.ModelInferRequest.SerializeToString,
        pb.ModelStreamInferResponse.FromString,
    )
    request = pb.ModelInferRequest(model_name="total", **typed(1, 2, 3, 4))
    try:
        (streamed,) = stream(iter([request]), timeout=30)
        assert elements(streamed.infer_response) == [3, 7], streamed
    except grpc.RpcError as error:
        streamed = error
    seen = codes(streamed, total.call("RepositoryIndex"))
    return chosen(seen, {"OK": "are answered", "UNIMPLEMENTED": "UNIMPLEMENTED"})


@row("gRPC: `RepositoryModelUnload`")
def unload(side: Side) -> str:
    with side.fresh("total", OMI_ADMIN="on") as total:
        unloaded = code(total.call("RepositoryModelUnload", repository_name="total"))
        gone = code(total.call("ModelInfer", **typed(1, 2, 3, 4))) != "OK"
    words = {
        ("OK", True): "answers when it has unloaded, with `OMI_ADMIN=on`",
        ("INTERNAL", True): "unloads and answers INTERNAL",
    }
    return chosen((unloaded, gone), words)


@row("gRPC: health, reflection")
def discovery(side: Side) -> str:
    total = side.ask("total")
    answered = {}
    try:
        request = health_pb2.HealthCheckRequest(service="")
        reply = total.rpc.call(
            "grpc.health.v1.Health/Check", request, health_pb2.HealthCheckResponse
        )
        answered["health"] = reply.status == health_pb2.HealthCheckResponse.SERVING
    except grpc.RpcError as error:
        answered["health"] = code(error)
    for name in ("v1", "v1alpha"):
        reflected = _reflected(total, name)
        answered[name] = bool(reflected) if not isinstance(reflected, str) else reflected
    words = {
        (True, True, True): "`grpc.health.v1`, reflection v1 and v1alpha",
        ("UNIMPLEMENTED",) * 3: "none",
    }
    return chosen(tuple(answered.values()), words)


@row("gRPC: the limit of a message")
def limit(side: Side) -> str:
    large = raw(("BYTES", framed(bytes(30 * MEBIBYTE))), outputs=[{"name": "bytes"}])
    answer = side.ask("datatypes").call("ModelInfer", **large)
    if side.kserve:
        assert code(answer) == "RESOURCE_EXHAUSTED", answer
        most = int(answer.details().partition(" vs. ")[2].rstrip(")"))
        return f"{most / MEBIBYTE:g} MiB"
    assert answer.raw_output_contents[0] == large["raw_input_contents"][0]
    set_lower = side.ask("datatypes", OMI_MAX_REQUEST_BYTES=str(MEBIBYTE))
    assert code(set_lower.call("ModelInfer", **large)) == "RESOURCE_EXHAUSTED"
    return f"`OMI_MAX_REQUEST_BYTES`, {Settings().max_request_bytes / MEBIBYTE:g} MiB"


@row("gRPC: `double_param`, `uint64_param`, `properties`")
def fields(side: Side) -> str:
    if side.kserve:  # which has no reflection: the messages that it answers with
        done = side.sdk.run("-c", _THEIR_FILE)
        assert done.code == 0, done
        file = bytes.fromhex(done.out)
    else:
        (file,) = _reflected(side.ask("total"), "v1", "inference.InferParameter")
    messages = descriptor_pb2.FileDescriptorProto.FromString(file).message_type
    there = NEW_FIELDS & {field.name for message in messages for field in message.field}
    return chosen(frozenset(there), {frozenset(): "are not in the messages", NEW: "are"})


NEW = frozenset(NEW_FIELDS)
_THEIR_FILE = (
    "from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages;"
    "print(messages.DESCRIPTOR.serialized_pb.hex())"
)


def _reflected(server: Running, version: str, symbol: str = "inference.InferParameter") -> Any:
    """The file that has a symbol, as reflection of this version tells it; or the status."""
    module = {"v1": reflection_pb2, "v1alpha": reflection_v1alpha_pb2}[version]
    method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    stream = server.rpc.channel.stream_stream(method)
    request = module.ServerReflectionRequest(file_containing_symbol=symbol).SerializeToString()
    try:
        (answer,) = stream(iter([request]), timeout=30)
    except grpc.RpcError as error:
        return code(error)
    found = module.ServerReflectionResponse.FromString(answer)
    return list(found.file_descriptor_response.file_descriptor_proto)


def framed(element: bytes) -> bytes:
    """One element of BYTES in its raw form."""
    return np.array([len(element)], "<u4").tobytes() + element
