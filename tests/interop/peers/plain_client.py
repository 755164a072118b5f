"""A client as anyone would generate it from the published .proto files, with protobuf's own tools.

    python plain_client.py PROTOS PORT

Prints the version of protobuf and what the calls were answered, as JSON.
"""

import importlib
import json
import subprocess
import sys
import tempfile

import google.protobuf
import grpc

PATIENCE = 30
FILES = ["modzy/model.proto", "openmodel/v2/inference.proto", "openmodel/v2/results.proto"]


def generate(protos):
    folder = tempfile.mkdtemp()
    output = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={protos}", *output]
    subprocess.run([*command, *FILES], check=True)
    sys.path.insert(0, folder)


def modzy(channel):
    messages = importlib.import_module("modzy.model_pb2")
    stub = importlib.import_module("modzy.model_pb2_grpc").ModzyModelStub(channel)
    status = stub.Status(messages.StatusRequest(), timeout=PATIENCE)
    items = [{"pair": b"[1, 2]"}, {"pair": b"[-1, 5]"}]
    request = messages.RunRequest(inputs=[messages.InputItem(input=item) for item in items])
    answer = stub.Run(request, timeout=PATIENCE)
    return {
        "status": [status.status_code, status.model_info.model_name],
        "run": [[item.success, sorted(item.output)] for item in answer.outputs],
        "result": answer.outputs[0].output["results.json"].decode(),
    }


def openmodel(channel):
    messages = importlib.import_module("openmodel.v2.inference_pb2")
    service = importlib.import_module("openmodel.v2.inference_pb2_grpc")
    stub = service.InferenceServiceStub(channel)

    def request(text):
        item = messages.Input(key="pair", text=text)
        return messages.PredictRequest(inputs=[item], tags={"asked": text})

    one = stub.Predict(request("[1, 2]"), timeout=PATIENCE)
    several = stub.PredictStream(iter([request("[3, 4]"), request("[]")]), timeout=PATIENCE)
    return {
        "info": stub.GetContainerInfo(messages.ContainerInfoRequest(), timeout=PATIENCE).name,
        "predict": [one.success, one.outputs[0].data.data.decode(), dict(one.tags)],
        "stream": [[response.success, dict(response.tags)] for response in several],
    }


def main(protos, port):
    generate(protos)
    said = {"protobuf": google.protobuf.__version__}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        said |= modzy(channel)
        said |= openmodel(channel)
    print(json.dumps(said))


main(sys.argv[1], sys.argv[2])
