"""Server reflection, asked as a client asks: over a channel, in both versions of the protocol."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from handlers import handler_of
from omi_grpc._pb import model_pb2

from omi_runtime import Model
from omi_runtime.adapter import Port
from omi_runtime.transport._pb import health_pb2, reflection_pb2, reflection_v1alpha_pb2
from omi_runtime.transport.calls import Service
from omi_runtime.transport.descriptors import POOL
from omi_runtime.transport.grpc import GRPCServer
from omi_runtime.transport.reflection import services
from omi_runtime.transport.status import STANDARD

NOT_FOUND, INVALID_ARGUMENT = 5, 3
SERVICES = ["grpc.health.v1.Health", "ModzyModel"]
LISTED = [
    "ModzyModel",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
]


@pytest.fixture(params=[reflection_pb2, reflection_v1alpha_pb2], ids=["v1", "v1alpha"])
def version(request: pytest.FixtureRequest) -> Any:
    return request.param


class Nothing(Model):
    """What no test asks."""

    def predict(self, x: float) -> float:
        return x


@asynccontextmanager
async def serving(
    pool: DescriptorPool = POOL,
) -> AsyncIterator[tuple[GRPCServer, grpc.aio.Channel]]:
    handler = handler_of(Nothing)
    offered = [Service("ModzyModel", {}, STANDARD)]
    if pool is not POOL:
        offered = services(SERVICES, pool, stopping=asyncio.Event())
    server = GRPCServer(offered, handler, "omi", "127.0.0.1", Port(0, "a test"))
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield server, channel
    await server.stop(0)


def open_stream(channel: grpc.aio.Channel, version: ModuleType) -> Any:
    service = version.DESCRIPTOR.services_by_name["ServerReflection"]
    return channel.stream_stream(
        f"/{service.full_name}/ServerReflectionInfo",
        request_serializer=version.ServerReflectionRequest.SerializeToString,
        response_deserializer=version.ServerReflectionResponse.FromString,
    )()


async def ask(
    version: ModuleType, *requests: dict[str, Any], pool: DescriptorPool = POOL
) -> list[Any]:
    """Ask all on one stream, each after the answer to the one before, and close it properly."""
    async with serving(pool) as (_, channel):
        stream = open_stream(channel, version)
        answers = []
        for request in requests:
            await stream.write(version.ServerReflectionRequest(**request))
            answers.append(await stream.read())
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK
        return answers


def file_names(answer: Any) -> list[str]:
    files = answer.file_descriptor_response.file_descriptor_proto
    return [FileDescriptorProto.FromString(file).name for file in files]


async def test_lists_the_services_and_itself(version: ModuleType) -> None:
    (answer,) = await ask(version, {"list_services": "*"})
    assert [service.name for service in answer.list_services_response.service] == LISTED


async def test_describes_every_service_that_it_lists(version: ModuleType) -> None:
    answers = await ask(version, *({"file_containing_symbol": name} for name in LISTED))
    assert [file_names(answer) for answer in answers] == [
        ["modzy/model.proto"],
        ["grpc/health/v1/health.proto"],
        ["grpc/reflection/v1/reflection.proto"],
        ["grpc/reflection/v1alpha/reflection.proto"],
    ]


@pytest.mark.parametrize(
    "symbol",
    ["ModzyModel", "ModzyModel.Run", "RunRequest", "RunRequest.explain", "InputItem.InputEntry"],
)
async def test_finds_a_file_by_what_it_defines(version: ModuleType, symbol: str) -> None:
    (answer,) = await ask(version, {"file_containing_symbol": symbol})
    files = answer.file_descriptor_response.file_descriptor_proto
    assert files == [model_pb2.DESCRIPTOR.serialized_pb]


async def test_finds_a_file_by_its_name(version: ModuleType) -> None:
    name = health_pb2.DESCRIPTOR.name
    (answer,) = await ask(version, {"file_by_filename": name})
    assert file_names(answer) == [name]


async def test_a_client_can_build_the_messages_from_the_answer(version: ModuleType) -> None:
    (answer,) = await ask(version, {"file_containing_symbol": "ModzyModel"})
    pool = DescriptorPool()
    for file in answer.file_descriptor_response.file_descriptor_proto:
        pool.AddSerializedFile(file)
    method = pool.FindServiceByName("ModzyModel").methods_by_name["Run"]
    assert (method.input_type.name, method.output_type.name) == ("RunRequest", "RunResponse")


@pytest.mark.parametrize(
    "question",
    [
        {"file_by_filename": "model.proto"},
        {"file_by_filename": ""},
        {"file_containing_symbol": "ModzyModels"},
        {"file_containing_symbol": "ModzyModel.Walk"},
        {"file_containing_symbol": ""},
        {"file_containing_extension": {"containing_type": "RunRequest", "extension_number": 9}},
        {"file_containing_extension": {"containing_type": "RunRequest", "extension_number": -1}},
        {"file_containing_extension": {"containing_type": "Runs", "extension_number": 1}},
        {"all_extension_numbers_of_type": "Runs"},
    ],
)
async def test_what_is_not_there_is_not_found_and_the_stream_goes_on(
    version: ModuleType, question: dict[str, Any]
) -> None:
    missing, after = await ask(version, question, {"list_services": ""})
    assert missing.error_response.error_code == NOT_FOUND
    assert missing.error_response.error_message
    assert len(after.list_services_response.service) == len(LISTED)


async def test_a_request_without_a_question_is_invalid(version: ModuleType) -> None:
    (answer,) = await ask(version, {})
    assert answer.error_response.error_code == INVALID_ARGUMENT


async def test_a_message_without_extensions_has_no_numbers(version: ModuleType) -> None:
    (answer,) = await ask(version, {"all_extension_numbers_of_type": "RunRequest"})
    assert answer.WhichOneof("message_response") == "all_extension_numbers_response"
    assert answer.all_extension_numbers_response.base_type_name == "RunRequest"
    assert answer.all_extension_numbers_response.extension_number == []


@pytest.mark.parametrize("question", [{"list_services": ""}, {"file_by_filename": "none"}])
async def test_answers_name_the_host_and_the_request(
    version: ModuleType, question: dict[str, str]
) -> None:
    (answer,) = await ask(version, {"host": "model:45000", **question})
    assert answer.valid_host == "model:45000"
    assert answer.original_request == version.ServerReflectionRequest(
        host="model:45000", **question
    )


async def test_a_file_comes_with_its_imports_and_extensions_are_found(version: ModuleType) -> None:
    by_symbol, by_extension, numbers = await ask(
        version,
        {"file_containing_symbol": "x.Top"},
        {"file_containing_extension": {"containing_type": "x.Base", "extension_number": 101}},
        {"all_extension_numbers_of_type": "x.Base"},
        pool=diamond(),
    )
    assert file_names(by_symbol)[0] == "top.proto"
    assert sorted(file_names(by_symbol)) == ["base.proto", "left.proto", "right.proto", "top.proto"]
    assert file_names(by_extension) == ["left.proto", "base.proto"]
    assert sorted(numbers.all_extension_numbers_response.extension_number) == [101, 102]


def diamond() -> DescriptorPool:
    """top.proto imports left and right, which both import base.proto and extend x.Base."""
    pool = DescriptorPool()
    base = FileDescriptorProto(name="base.proto", package="x")
    base.message_type.add(name="Base").extension_range.add(start=100, end=200)
    pool.Add(base)
    top = FileDescriptorProto(name="top.proto", package="x")
    top.message_type.add(name="Top")
    for number, name in ((101, "left"), (102, "right")):
        side = FileDescriptorProto(name=f"{name}.proto", package="x", dependency=["base.proto"])
        side.extension.add(
            name=name,
            number=number,
            extendee=".x.Base",
            type=FieldDescriptorProto.TYPE_STRING,
            label=FieldDescriptorProto.LABEL_OPTIONAL,
        )
        pool.Add(side)
        top.dependency.append(side.name)
    pool.Add(top)
    return pool


async def test_stopping_ends_an_idle_stream_at_once(version: ModuleType) -> None:
    async with serving() as (server, channel):
        stream = open_stream(channel, version)
        await stream.write(version.ServerReflectionRequest(list_services=""))
        await stream.read()
        begin = time.monotonic()
        await server.stop(20)
        assert time.monotonic() - begin < 5
        assert await stream.code() is grpc.StatusCode.UNAVAILABLE
        assert await stream.details() == "the server is stopping: try another"


async def test_a_stream_that_comes_when_it_has_stopped_is_turned_away(version: ModuleType) -> None:
    async with serving() as (server, channel):
        await server.stop(20)
        assert await open_stream(channel, version).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_client_that_goes_away_leaves_nothing_behind(
    version: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as (server, channel):
        stream = open_stream(channel, version)
        await stream.write(version.ServerReflectionRequest(list_services=""))
        await stream.read()
        stream.cancel()
        begin = time.monotonic()
        await server.stop(20)
        assert time.monotonic() - begin < 5
        running = " ".join(repr(task.get_coro()) for task in asyncio.all_tasks())
        assert "Calls" not in running
        assert "Ordered" not in running
    # asyncio's own logger is left out: grpc.aio polls for the loops of earlier tests too, and an
    # event that comes for a closed one is logged there.
    assert not [record for record in caplog.records if record.name.startswith(("grpc", "omi"))]
