"""Import our generated messages and those of another package into one process, and use both.

    python beside.py OTHER ORDER

OTHER is kserve, tritonclient, chassis or grpc_health; ORDER is ours or theirs, which come first.
"""

import importlib
import importlib.metadata
import importlib.util
import sys
from pathlib import Path

THEIRS = {
    "kserve": ("kserve", "kserve/protocol/grpc/grpc_predict_v2_pb2.py", "ModelInferRequest"),
    "tritonclient": ("tritonclient", "tritonclient/grpc/service_pb2.py", "ModelInferRequest"),
    "chassis": ("chassisml-protobuf", "chassis/protos/v1/model_pb2.py", "RunRequest"),
    "grpc_health": ("grpcio-health-checking", "grpc_health/v1/health_pb2.py", "HealthCheckRequest"),
}


def theirs(other):
    """Their module, from its file: the packages around it import far more."""
    distribution, path, _ = THEIRS[other]
    file = importlib.metadata.distribution(distribution).locate_file(path)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ours():
    """All that we generate."""
    names = []
    for package in ("omi_grpc", "omi_kserve", "omi_runtime.transport"):
        folder = Path(importlib.import_module(package).__file__).parent
        names += [f"{package}._pb.{file.stem}" for file in sorted(folder.glob("_pb/*_pb2.py"))]
    return [importlib.import_module(name) for name in names]


def main(other, order):
    if order == "ours":
        our, their = ours(), theirs(other)
    else:
        their, our = theirs(other), ours()
    name = THEIRS[other][2]
    same = [module for module in our if name in module.DESCRIPTOR.message_types_by_name]
    message = getattr(their, name)()
    for module in same:
        mine = getattr(module, name)
        assert mine is not type(message)
        assert mine.FromString(message.SerializeToString()) == mine()
    print(len(our), len(same))


main(sys.argv[1], sys.argv[2])
