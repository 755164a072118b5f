"""The private descriptor pool in which all protobuf messages of this project live.

Protobuf keeps one pool of names per process, and a second definition of a name in it is an error
at import. The names that we need are also defined by libraries that a model may use: `inference.*`
by kserve and tritonclient, `ModzyModel` and its messages by chassis, `grpc.health.v1.*` by
grpcio-health-checking. A pool of our own lets either be imported first. On the wire nothing
differs; in Python our message classes are simply not those of the other library.

The generated `_pb` modules hold a serialized description and call `define`. They do not use
protobuf's own builder, because that also registers every message in the default pool where
protobuf runs as pure Python (`PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python`, which users of old
generated code set), and the collision would be back.
"""

from types import ModuleType
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

POOL: Final = DescriptorPool()


def define(namespace: dict[str, Any], serialized: bytes, *imports: ModuleType) -> FileDescriptor:
    """Add one .proto file to `POOL` and its messages and enums to a generated module.

    Args:
        namespace: The module's `globals()`.
        serialized: The file as a `google.protobuf.FileDescriptorProto`.
        imports: The generated modules of the files that it imports. Those of
            `google.protobuf`, such as `duration_pb2`, live in the default pool and are copied,
            so a field of such a type holds a class of ours: fill it in place
            (`message.field.FromTimedelta(...)`, `message.field.CopyFrom(...)` of its own class).
    """
    for module in imports:
        _copy(module.DESCRIPTOR)
    file = POOL.AddSerializedFile(serialized)
    for name, message in file.message_types_by_name.items():
        namespace[name] = _message_class(message, namespace["__name__"], name)
    for name, enum in file.enum_types_by_name.items():
        namespace[name] = EnumTypeWrapper(enum)
        namespace.update((value.name, value.number) for value in enum.values)
    return file


def _copy(file: FileDescriptor) -> None:
    for dependency in file.dependencies:
        _copy(dependency)
    POOL.AddSerializedFile(file.serialized_pb)  # of a file that is there already: does nothing


def _message_class(descriptor: Descriptor, module: str, qualname: str) -> type[Message]:
    cls = GetMessageClass(descriptor)
    cls.__module__, cls.__qualname__ = module, qualname
    for nested in descriptor.nested_types:
        setattr(cls, nested.name, _message_class(nested, module, f"{qualname}.{nested.name}"))
    return cls
