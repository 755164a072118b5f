"""gRPC server reflection, v1 and v1alpha, for a grpc.aio server.

A client such as grpcurl asks on one stream which services there are and what their messages look
like. The protocol is grpc/reflection/v1/reflection.proto of the repository grpc/grpc-proto. Its
v1alpha has the same messages under another name, so v1's classes serve both.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

from omi_runtime.transport._pb import reflection_pb2 as v1
from omi_runtime.transport._pb import reflection_v1alpha_pb2 as v1alpha
from omi_runtime.transport.descriptors import POOL

REFLECTION_SERVICES = tuple(
    version.DESCRIPTOR.services_by_name["ServerReflection"].full_name for version in (v1, v1alpha)
)

_Context = grpc.aio.ServicerContext[v1.ServerReflectionRequest, v1.ServerReflectionResponse]


def reflection_handlers(
    service_names: Sequence[str], pool: DescriptorPool = POOL, stopping: asyncio.Event | None = None
) -> list[grpc.GenericRpcHandler]:
    """The handlers of both versions, to be added to a server before it starts.

    Args:
        service_names: Full names of the services that the server offers; the reflection services
            are listed with them.
        pool: Where those services are described.
        stopping: Ends every stream with UNAVAILABLE once set. Clients keep idle streams open,
            and `Server.stop` would wait its whole grace for them.
    """
    names = sorted({*service_names, *REFLECTION_SERVICES})
    handler = grpc.stream_stream_rpc_method_handler(
        partial(_converse, names, pool, stopping or asyncio.Event()),
        request_deserializer=v1.ServerReflectionRequest.FromString,
        response_serializer=v1.ServerReflectionResponse.SerializeToString,
    )
    return [
        grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": handler})
        for service in REFLECTION_SERVICES
    ]


async def _converse(
    names: list[str], pool: DescriptorPool, stopping: asyncio.Event, _: object, context: _Context
) -> None:
    stop = asyncio.create_task(stopping.wait())
    try:
        while (request := await _next(context, stop)) is not None:
            reply = v1.ServerReflectionResponse(valid_host=request.host, original_request=request)
            try:
                _answer(reply, names, pool)
            except KeyError:
                _refuse(reply, grpc.StatusCode.NOT_FOUND, "the server has no such descriptor")
            await context.write(reply)
    finally:
        stop.cancel()


async def _next(context: _Context, stop: asyncio.Task[bool]) -> v1.ServerReflectionRequest | None:
    read = asyncio.create_task(context.read())
    try:
        await asyncio.wait({read, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not read.done():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        request = read.result()
        return request if isinstance(request, v1.ServerReflectionRequest) else None  # grpc.aio.EOF
    finally:
        read.cancel()


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
            _refuse(reply, grpc.StatusCode.INVALID_ARGUMENT, "the request asks for nothing")


def _send(reply: v1.ServerReflectionResponse, file: FileDescriptor) -> None:
    # With all that it imports, every time: leaving out what was sent before on the same stream,
    # as the standard allows, would save only bytes.
    sent = reply.file_descriptor_response.file_descriptor_proto
    if file.serialized_pb not in sent:
        sent.append(file.serialized_pb)
        for dependency in file.dependencies:
            _send(reply, dependency)


def _refuse(reply: v1.ServerReflectionResponse, code: grpc.StatusCode, message: str) -> None:
    reply.error_response.error_code = code.value[0]
    reply.error_response.error_message = message
