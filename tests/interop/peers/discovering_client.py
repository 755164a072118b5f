"""A client without any .proto file: it asks the server by reflection, as grpcurl does.

    python discovering_client.py PORT VERSION

VERSION, of reflection, is v1alpha, or v1, which has the same messages under another name. Prints
what was found and answered, as JSON; and what the standard health client is told.
"""

import json
import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

PATIENCE = 30


class Renamed(grpc.StreamStreamClientInterceptor):
    """Sends the calls of reflection v1alpha to another version."""

    def __init__(self, version):
        self.version = version

    def intercept_stream_stream(self, continuation, details, requests):
        if "reflection" not in details.method:
            return continuation(details, requests)
        method = details.method.replace("v1alpha", self.version)
        return continuation(details._replace(method=method), requests)


def ask(channel, service, method, request, streams=False):
    """Call a method with what protobuf's JSON says, by its discovered descriptor."""
    found = service.methods_by_name[method]
    response = GetMessageClass(found.output_type)
    call = channel.stream_stream if streams else channel.unary_unary
    stub = call(
        f"/{service.full_name}/{method}",
        lambda message: message.SerializeToString(),
        response.FromString,
    )
    made = ParseDict(request, GetMessageClass(found.input_type)())
    answer = stub(iter([made]) if streams else made, timeout=PATIENCE)
    return [MessageToDict(each) for each in answer] if streams else MessageToDict(answer)


def health(channel, names):
    stub = health_pb2_grpc.HealthStub(channel)
    word = health_pb2.HealthCheckResponse.ServingStatus.Name
    said = {}
    for name in names:
        request = health_pb2.HealthCheckRequest(service=name)
        watch = stub.Watch(request, timeout=PATIENCE)
        checked = stub.Check(request, timeout=PATIENCE).status
        said[name] = [word(checked), word(next(watch).status)]
        watch.cancel()
    listed = stub.List(health_pb2.HealthListRequest(), timeout=PATIENCE).statuses
    return {"checked": said, "listed": {name: word(each.status) for name, each in listed.items()}}


def main(port, version):
    plain = grpc.insecure_channel(f"127.0.0.1:{port}")
    with grpc.intercept_channel(plain, Renamed(version)) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = sorted(database.get_services())
        pool = DescriptorPool(database)
        modzy = pool.FindServiceByName("ModzyModel")
        openmodel = pool.FindServiceByName("openmodel.v2.InferenceService")
        item = {"input": {"pair": "WzEsMl0="}}  # [1,2]
        asked = {"inputs": [{"key": "pair", "text": "[1,2]"}]}
        said = {
            "services": services,
            "run": ask(channel, modzy, "Run", {"inputs": [item]}),
            "predict": ask(channel, openmodel, "Predict", asked),
            "stream": ask(channel, openmodel, "PredictStream", asked, streams=True),
            "health": health(channel, ["", "ModzyModel", "openmodel.v2.InferenceService"]),
        }
    print(json.dumps(said))


main(sys.argv[1], sys.argv[2])
