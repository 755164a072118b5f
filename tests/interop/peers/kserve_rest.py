"""Ask a server everything that kserve's InferenceRESTClient can, over V1 and V2, and print it.

python kserve_rest.py URL

The model is Total of tests/adapters/models.py.
"""

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def refused(call):
    """The error that a call ends with."""
    try:
        await call
    except httpx.HTTPStatusError as error:
        return [error.response.status_code, str(error).partition(",")[0]]
    return None


async def v1(url):
    async with InferenceRESTClient(RESTConfig(protocol="v1", timeout=60)) as client:
        asked = {"instances": [[1, 2], [30, 40]]}
        return {
            "live": await client.is_server_live(url),
            "ready": await client.is_model_ready(url, "total"),
            "predict": await client.infer(url, asked, model_name="total"),
            "explain": await client.explain(url, "total", asked),
            "other": await refused(client.infer(url, asked, model_name="other")),
            "wrong": await refused(client.infer(url, {"instances": [[1]]}, model_name="total")),
        }


async def v2(url):
    values = np.array([[1, 2], [30, 40]], np.int32)
    async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=60)) as client:
        said = {
            "live": await client.is_server_live(url),
            "ready": await client.is_server_ready(url),
            "model": await client.is_model_ready(url, "total"),
            "other": await client.is_model_ready(url, "other"),
        }
        for binary in (True, False):
            tensor = InferInput("values", [2, 2], "INT32")
            tensor.set_data_from_numpy(values, binary_data=binary)
            request = InferRequest(
                "total", [tensor], request_id="7", parameters={"binary_data_output": binary}
            )
            answer = await client.infer(url, request, model_name="total")
            (output,) = answer.outputs
            said[str(binary)] = [answer.id, output.name, output.datatype, output.shape]
            said[str(binary)].append(output.as_numpy().tolist())
        return said


async def main(url):
    print(json.dumps({"v1": await v1(url), "v2": await v2(url)}))


asyncio.run(main(*sys.argv[1:]))
