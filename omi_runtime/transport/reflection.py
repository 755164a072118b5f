"""gRPC server reflection, v1 and v1alpha.

A client such as grpcurl asks on one stream which services there are and what their messages look
like. The protocol is grpc/reflection/v1/reflection.proto of the repository grpc/grpc-proto. Its
v1alpha has the same messages under another name, so v1's classes serve both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Final

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

from omi_runtime.transport._pb import reflection_pb2 as v1
from omi_runtime.transport._pb import reflection_v1alpha_pb2 as v1alpha
from omi_runtime.transport.calls import Call, Method, Service
from omi_runtime.transport.descriptors import POOL
from omi_runtime.transport.status import STANDARD, Status
from omi_runtime.transport.streams import Ordered

REFLECTION_SERVICES = tuple(
    version.DESCRIPTOR.services_by_name["ServerReflection"].full_name for version in (v1, v1alpha)
)

_ROOM: Final = 1024 * 1024


def services(
    service_names: Sequence[str], pool: DescriptorPool = POOL, *, stopping: asyncio.Event
) -> list[Service]:
    """Both versions, as the transport is given them to offer.

    Args:
        service_names: Full names of the services that the server offers; the reflection services
            are listed with them.
        pool: Where those services are described.
        stopping: Ends every stream with UNAVAILABLE once set. Clients keep idle streams open,
            and a stop would wait its whole grace for them.
    """
    names = sorted({*service_names, *REFLECTION_SERVICES})

    async def answer(
        request: v1.ServerReflectionRequest,
    ) -> AsyncGenerator[v1.ServerReflectionResponse, None]:
        reply = v1.ServerReflectionResponse(valid_host=request.host, original_request=request)
        try:
            _answer(reply, names, pool)
        except KeyError:
            _refuse(reply, Status.NOT_FOUND, "the server has no such descriptor")
        yield reply

    def converse(
        requests: AsyncIterator[v1.ServerReflectionRequest], _call: Call
    ) -> AsyncGenerator[v1.ServerReflectionResponse, None]:
        return Ordered(
            requests,
            answer,
            ahead=0,
            size=v1.ServerReflectionRequest.ByteSize,
            room=_ROOM,
            stopping=stopping,
        ).answers()

    method = Method(
        converse,
        v1.ServerReflectionRequest,
        streams_requests=True,
        streams_responses=True,
        probe=True,
    )
    return [
        Service(name, {"ServerReflectionInfo": method}, STANDARD) for name in REFLECTION_SERVICES
    ]


def _answer(reply: v1.ServerReflectionResponse, names: list[str], pool: DescriptorPool) -> None:
    request = reply.original_request
    match request.WhichOneof("message_request"):
        case "list_services":
            for name in names:
                reply.list_services_response.service.add(name=name)
        case "file_by_filename":
            _send(reply, pool.FindFileByName(request.file_by_filename))
        case "file_containing_symbol":
            try:
                file = pool.FindFileContainingSymbol(request.file_containing_symbol)
            except KeyError:  # protobuf's C implementation does not look among methods
                file = pool.FindMethodByName(request.file_containing_symbol).containing_service.file
            _send(reply, file)
        case "file_containing_extension":
            wanted = request.file_containing_extension
            extended = pool.FindMessageTypeByName(wanted.containing_type)
            extension = pool.FindExtensionByNumber(extended, wanted.extension_number)
            _send(reply, pool.FindFileContainingSymbol(extension.full_name))
        case "all_extension_numbers_of_type":
            extended = pool.FindMessageTypeByName(request.all_extension_numbers_of_type)
            numbers = reply.all_extension_numbers_response
            numbers.base_type_name = extended.full_name
            numbers.extension_number.extend(f.number for f in pool.FindAllExtensions(extended))
        case _:
            _refuse(reply, Status.INVALID_ARGUMENT, "the request asks for nothing")


def _send(reply: v1.ServerReflectionResponse, file: FileDescriptor) -> None:
    # With all that it imports, every time: leaving out what was sent before on the same stream,
    # as the standard allows, would save only bytes.
    sent = reply.file_descriptor_response.file_descriptor_proto
    if file.serialized_pb not in sent:
        sent.append(file.serialized_pb)
        for dependency in file.dependencies:
            _send(reply, dependency)


def _refuse(reply: v1.ServerReflectionResponse, code: Status, message: str) -> None:
    reply.error_response.error_code = code
    reply.error_response.error_message = message
