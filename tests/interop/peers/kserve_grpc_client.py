"""kserve's InferenceGRPCClient against a server of Total, on the port given; prints what it saw."""

import asyncio
import json
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

ADDRESS = f"127.0.0.1:{sys.argv[1]}"


async def main():
    client = InferenceGRPCClient(url=ADDRESS, timeout=30)
    said = {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model": await client.is_model_ready("total"),
    }
    for name, binary in (("typed", False), ("raw", True)):
        values = InferInput("values", [2, 2], "INT32")
        values.set_data_from_numpy(np.array([[1, 2], [3, 4]], np.int32), binary_data=binary)
        answer = await client.infer(InferRequest("total", [values], request_id=name))
        (output,) = answer.outputs
        said[name] = [answer.id, output.name, output.datatype, output.as_numpy().tolist()]
    values = InferInput("values", [1, 3], "INT32", data=[1, 2, 3])
    try:
        await client.infer(InferRequest("total", [values]))
    except grpc.RpcError as error:
        said["refused"] = [error.code().name, error.details()]
    await client.close()
    return said


print(json.dumps(asyncio.run(main())))
