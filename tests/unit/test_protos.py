"""The generated messages: what is on the wire, and that they get along with other libraries."""

import importlib.util
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import duration_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileOptions
from omi_grpc._pb import model_pb2
from omi_kserve._pb import open_inference_pb2

from omi_runtime.transport._pb import health_pb2, reflection_pb2, reflection_v1alpha_pb2
from omi_runtime.transport.descriptors import POOL, define

STATUS = {1: "status_code int32", 2: "status string", 3: "message string"}

# The ModzyModel interface as its containers and clients in use have it.
MODEL = {
    "StatusRequest": {},
    "ShutdownRequest": {},
    "ModelInfo": {
        1: "model_name string",
        2: "model_version string",
        3: "model_author string",
        4: "model_type string",
        5: "source string",
    },
    "ModelDescription": {
        1: "summary string",
        2: "details string",
        3: "technical string",
        4: "performance string",
    },
    "ModelInput": {
        1: "filename string",
        2: "accepted_media_types repeated string",
        3: "max_size string",
        4: "description string",
    },
    "ModelOutput": {
        1: "filename string",
        2: "media_type string",
        3: "max_size string",
        4: "description string",
    },
    "ModelResources": {1: "required_ram string", 2: "num_cpus float", 3: "num_gpus int32"},
    "ModelTimeout": {1: "status string", 2: "run string"},
    "ModelFeatures": {
        1: "adversarial_defense bool",
        2: "batch_size int32",
        3: "retrainable bool",
        4: "results_format string",
        5: "drift_format string",
        6: "explanation_format string",
    },
    "StatusResponse": STATUS
    | {
        4: "model_info ModelInfo",
        5: "description ModelDescription",
        6: "inputs repeated ModelInput",
        7: "outputs repeated ModelOutput",
        8: "resources ModelResources",
        9: "timeout ModelTimeout",
        10: "features ModelFeatures",
    },
    "InputItem": {1: "input map<string,bytes>"},
    "RunRequest": {1: "inputs repeated InputItem", 2: "detect_drift bool", 3: "explain bool"},
    "OutputItem": {1: "output map<string,bytes>", 2: "success bool"},
    "RunResponse": STATUS | {4: "outputs repeated OutputItem"},
    "ShutdownResponse": STATUS,
}

SCALARS = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_ENUM: "enum",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}


def described(message: Descriptor) -> dict[int, str]:
    proto = DescriptorProto()
    message.CopyToProto(proto)
    repeated = {field.name for field in proto.field if field.label == field.LABEL_REPEATED}
    return {
        field.number: f"{field.name} {type_name(field, is_repeated=field.name in repeated)}"
        for field in message.fields
    }


PARAMETERS = "map<string,inference.InferParameter>"
NAMED = {1: "name string", 2: "version string"}
TENSOR = {1: "name string", 2: "datatype string", 3: "shape repeated int64"}
WHOLE = {1: "model_name string", 2: "model_version string", 3: "id string"}
CONTENTS = {4: f"parameters {PARAMETERS}", 5: "contents inference.InferTensorContents"}
REPOSITORY_MODEL = {
    1: "repository_name string",
    2: "model_name string",
    3: "parameters map<string,inference.ModelRepositoryParameter>",
}

# The Open Inference Protocol V2 and, beside it, what Triton and KServe have.
INFERENCE = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {1: "live bool"},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {1: "ready bool"},
    "ModelReadyRequest": NAMED,
    "ModelReadyResponse": {1: "ready bool"},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {**NAMED, 3: "extensions repeated string"},
    "ModelMetadataRequest": NAMED,
    "ModelMetadataResponse": {
        1: "name string",
        2: "versions repeated string",
        3: "platform string",
        4: "inputs repeated inference.ModelMetadataResponse.TensorMetadata",
        5: "outputs repeated inference.ModelMetadataResponse.TensorMetadata",
        6: "properties map<string,string>",
    },
    "ModelMetadataResponse.TensorMetadata": TENSOR,
    "InferParameter": {
        1: "bool_param bool",
        2: "int64_param int64",
        3: "string_param string",
        4: "double_param double",
        5: "uint64_param uint64",
    },
    "InferTensorContents": {
        1: "bool_contents repeated bool",
        2: "int_contents repeated int32",
        3: "int64_contents repeated int64",
        4: "uint_contents repeated uint32",
        5: "uint64_contents repeated uint64",
        6: "fp32_contents repeated float",
        7: "fp64_contents repeated double",
        8: "bytes_contents repeated bytes",
    },
    "ModelInferRequest": {
        **WHOLE,
        4: f"parameters {PARAMETERS}",
        5: "inputs repeated inference.ModelInferRequest.InferInputTensor",
        6: "outputs repeated inference.ModelInferRequest.InferRequestedOutputTensor",
        7: "raw_input_contents repeated bytes",
    },
    "ModelInferRequest.InferInputTensor": {**TENSOR, **CONTENTS},
    "ModelInferRequest.InferRequestedOutputTensor": {
        1: "name string",
        2: f"parameters {PARAMETERS}",
    },
    "ModelInferResponse": {
        **WHOLE,
        4: f"parameters {PARAMETERS}",
        5: "outputs repeated inference.ModelInferResponse.InferOutputTensor",
        6: "raw_output_contents repeated bytes",
    },
    "ModelInferResponse.InferOutputTensor": {**TENSOR, **CONTENTS},
    "ModelStreamInferResponse": {
        1: "error_message string",
        2: "infer_response inference.ModelInferResponse",
    },
    "ModelRepositoryParameter": {
        1: "bool_param bool",
        2: "int64_param int64",
        3: "string_param string",
        4: "bytes_param bytes",
    },
    "RepositoryIndexRequest": {1: "repository_name string", 2: "ready bool"},
    "RepositoryIndexResponse": {1: "models repeated inference.RepositoryIndexResponse.ModelIndex"},
    "RepositoryIndexResponse.ModelIndex": {**NAMED, 3: "state string", 4: "reason string"},
    "RepositoryModelLoadRequest": REPOSITORY_MODEL,
    "RepositoryModelLoadResponse": {1: "model_name string", 2: "isLoaded bool"},
    "RepositoryModelUnloadRequest": REPOSITORY_MODEL,
    "RepositoryModelUnloadResponse": {1: "model_name string", 2: "isUnloaded bool"},
}


def type_name(field: FieldDescriptor, *, is_repeated: bool) -> str:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        key, value = (type_name(part, is_repeated=False) for part in kind.fields)
        return f"map<{key},{value}>"
    name = kind.full_name if kind is not None else SCALARS[field.type]
    return f"repeated {name}" if is_repeated else name


def test_model_has_the_fields_of_the_interface() -> None:
    messages = model_pb2.DESCRIPTOR.message_types_by_name
    assert {name: described(message) for name, message in messages.items()} == MODEL


def test_model_has_the_methods_of_the_interface() -> None:
    file = model_pb2.DESCRIPTOR
    options = FileOptions.FromString(file.GetOptions().SerializeToString())
    assert (file.package, options.java_package) == ("", "com.modzy.model.grpc")
    (service,) = FileDescriptorProto.FromString(file.serialized_pb).service
    assert service.name == "ModzyModel"
    assert [(m.name, m.input_type, m.output_type) for m in service.method] == [
        ("Status", ".StatusRequest", ".StatusResponse"),
        ("Run", ".RunRequest", ".RunResponse"),
        ("Shutdown", ".ShutdownRequest", ".ShutdownResponse"),
    ]
    assert not any(m.client_streaming or m.server_streaming for m in service.method)


def test_inference_has_the_fields_of_the_protocol() -> None:
    messages = dict(open_inference_pb2.DESCRIPTOR.message_types_by_name)
    for name, message in list(messages.items()):
        messages |= {
            f"{name}.{nested.name}": nested
            for nested in message.nested_types
            if not nested.GetOptions().map_entry
        }
    assert {name: described(message) for name, message in messages.items()} == INFERENCE


def test_inference_has_the_methods_of_the_protocol() -> None:
    file = FileDescriptorProto.FromString(open_inference_pb2.DESCRIPTOR.serialized_pb)
    (service,) = file.service
    assert f"{file.package}.{service.name}" == "inference.GRPCInferenceService"
    methods = {m.name: (m.input_type, m.output_type) for m in service.method}
    streamed = {
        "ModelStreamInfer": (".inference.ModelInferRequest", ".inference.ModelStreamInferResponse")
    }
    unary = (
        *("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata"),
        *("ModelInfer", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
    )
    assert methods == streamed | {
        name: (f".inference.{name}Request", f".inference.{name}Response") for name in unary
    }
    streams = {m.name for m in service.method if m.client_streaming and m.server_streaming}
    assert streams == {m.name for m in service.method if m.client_streaming or m.server_streaming}
    assert streams == set(streamed)


def test_model_on_the_wire() -> None:
    request = model_pb2.RunRequest(
        inputs=[model_pb2.InputItem(input={"a": b"\xff"})], detect_drift=True, explain=True
    )
    wire = b"\x0a\x08\x0a\x06\x0a\x01a\x12\x01\xff\x10\x01\x18\x01"
    assert request.SerializeToString() == wire
    assert model_pb2.RunRequest.FromString(wire) == request


def test_health_on_the_wire() -> None:
    statuses = health_pb2.HealthCheckResponse.ServingStatus
    assert dict(statuses.items()) == {
        "UNKNOWN": 0,
        "SERVING": 1,
        "NOT_SERVING": 2,
        "SERVICE_UNKNOWN": 3,
    }
    serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
    assert serving.SerializeToString() == b"\x08\x01"
    assert list(POOL.FindServiceByName("grpc.health.v1.Health").methods_by_name) == [
        "Check",
        "List",
        "Watch",
    ]


def test_both_versions_of_reflection_are_the_same_on_the_wire() -> None:
    # One implementation answers both with v1's classes.
    v1 = FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    v1alpha = FileDescriptorProto.FromString(reflection_v1alpha_pb2.DESCRIPTOR.serialized_pb)
    v1.name = v1alpha.name
    assert str(v1).replace("reflection.v1", "reflection.v1alpha") == str(v1alpha)


COEXIST = """
import sys
from google.protobuf import descriptor_pool, symbol_database
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.internal import builder

def import_theirs():
    # What a generated module does; the same names, but other fields than ours.
    theirs = FileDescriptorProto(name=sys.argv[2], package=sys.argv[3], syntax="proto3")
    theirs.message_type.add(name=sys.argv[4]).field.add(name="other", number=1, type=9, label=1)
    theirs.service.add(name=sys.argv[5])
    file = descriptor_pool.Default().AddSerializedFile(theirs.SerializeToString())
    builder.BuildMessageAndEnumDescriptors(file, module := {})
    builder.BuildTopDescriptorsAndMessages(file, "theirs_pb2", module)
    return module[sys.argv[4]]

def import_ours():
    import omi_grpc._pb.model_pb2, omi_runtime.transport._pb.health_pb2
    from google.protobuf.message_factory import GetMessageClass
    from omi_runtime.transport.descriptors import POOL
    name = f"{sys.argv[3]}.{sys.argv[4]}".lstrip(".")
    return GetMessageClass(POOL.FindMessageTypeByName(name))

if sys.argv[1] == "ours first":
    ours, theirs = import_ours(), import_theirs()
else:
    theirs, ours = import_theirs(), import_ours()
assert theirs(other="x").SerializeToString() == b"\\x0a\\x01x"
assert "other" not in ours.DESCRIPTOR.fields_by_name
name = theirs.DESCRIPTOR.full_name
assert descriptor_pool.Default().FindMessageTypeByName(name) is theirs.DESCRIPTOR
assert symbol_database.Default().GetSymbol(name) is theirs
"""


@pytest.mark.parametrize("implementation", ["upb", "python"])
@pytest.mark.parametrize("order", ["ours first", "theirs first"])
@pytest.mark.parametrize(
    "symbols",
    [
        ("model.proto", "", "StatusResponse", "ModzyModel"),
        ("modzy/model.proto", "", "StatusResponse", "ModzyModel"),
        ("grpc/health/v1/health.proto", "grpc.health.v1", "HealthCheckResponse", "Health"),
    ],
    ids=["model", "model of the same file name", "health"],
)
def test_coexists_with_a_library_that_defines_the_same_names(
    implementation: str, order: str, symbols: tuple[str, ...]
) -> None:
    variables = {
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-W", "error", "-c", COEXIST, order, *symbols]
    done = subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    path = Path(__file__).parents[2] / "protos" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def importing() -> FileDescriptorProto:
    """A file that imports one of protobuf's own and one of ours."""
    proto = FileDescriptorProto(name="omi_test/importing.proto", package="omi_test")
    proto.dependency.extend(["google/protobuf/duration.proto", "grpc/health/v1/health.proto"])
    message = proto.message_type.add(name="Outer")
    duration = ".google.protobuf.Duration"
    message.field.add(name="took", number=1, type=11, label=1, type_name=duration)
    health = ".grpc.health.v1.HealthCheckResponse"
    message.field.add(name="health", number=2, type=11, label=1, type_name=health)
    nested = message.nested_type.add(name="Inner")
    nested.field.add(name="text", number=1, type=9, label=1)
    enum = proto.enum_type.add(name="Colour")
    enum.value.add(name="RED", number=0)
    enum.value.add(name="BLUE", number=1)
    return proto


def test_imports_nested_messages_and_enums(importing: FileDescriptorProto) -> None:
    namespace: dict[str, Any] = {"__name__": "somewhere_pb2"}
    define(namespace, importing.SerializeToString(), duration_pb2, health_pb2)
    outer_class, inner_class = namespace["Outer"], namespace["Outer"].Inner
    outer = outer_class(health=health_pb2.HealthCheckResponse(status="SERVING"))
    outer.took.FromTimedelta(timedelta(seconds=1.5))
    assert outer_class.FromString(outer.SerializeToString()) == outer
    assert outer.took.nanos == 500_000_000
    assert inner_class(text="x").text == "x"
    assert (inner_class.__module__, inner_class.__qualname__) == ("somewhere_pb2", "Outer.Inner")
    assert namespace["Colour"].Name(namespace["BLUE"]) == "BLUE"


def test_a_generated_module_brings_its_imports(
    generate: ModuleType, importing: FileDescriptorProto
) -> None:
    namespace: dict[str, Any] = {"__name__": "generated_pb2"}
    exec(generate.module_text(importing), namespace)
    assert namespace["Outer"].DESCRIPTOR.full_name == "omi_test.Outer"
    assert namespace["DESCRIPTOR"].name == importing.name


def test_a_generated_stub_imports_our_modules_and_lacks_no_type(
    generate: ModuleType, importing: FileDescriptorProto
) -> None:
    stub = (
        "from google.protobuf import duration_pb2 as _duration_pb2\n"
        "from grpc.health.v1 import health_pb2 as _health_pb2\n"
        "from typing import Mapping as _Mapping, Union as _Union\n"
        "    def __init__(self, took: _Union[D, _Mapping], **kwargs) -> None: ...\n"
    )
    assert generate.stub_text(importing, stub).splitlines()[1:] == [
        "from google.protobuf import duration_pb2 as _duration_pb2",
        "from omi_runtime.transport._pb import health_pb2 as _health_pb2",
        "from typing import Any as _Any, Mapping as _Mapping, Union as _Union",
        "    def __init__(self, took: _Union[D, _Mapping[str, _Any]], **kwargs: _Any) -> None: ...",
    ]
