"""Ask an OMI server everything that chassis's OMIClient can, and print the answers as JSON.

python chassis_client.py PORT
"""

import asyncio
import json
import sys

from chassis.client import OMIClient
from google.protobuf.json_format import MessageToDict


def items(answer):
    """Each output's success, and its files as text."""
    return [[o.success, {k: v.decode() for k, v in o.output.items()}] for o in answer.outputs]


async def main(port):
    said = {}
    # Entering it polls Status until that is 200.
    async with OMIClient("127.0.0.1", port, timeout=30) as client:
        said["status"] = MessageToDict(await client.status(), preserving_proto_field_name=True)
        answer = await client.run([{"pair": b"[1, 2]"}])
        said["run"] = [answer.status_code, answer.status, answer.message, items(answer)]
        batch = [{"pair": b"[%d, 1]" % i} for i in range(20)]
        said["batch"] = items(await client.run(batch))
        mixed = [{"pair": b"[1, 1]"}, {"pair": b"[-1, 5]"}, {}, {"pair.csv": b"2,2\n"}]
        said["mixed"] = items(await client.run(mixed))
        said["explained"] = items(
            await client.run([{"pair": b"[1, 2]"}], detect_drift=True, explain=True)
        )
        large = [{"pair": b"[1, 2]", "unknown": bytes(30_000_000)}]
        said["large"] = items(await client.run(large))
        answer = await client.shutdown()
        said["shutdown"] = [answer.status_code, answer.status, answer.message]
    print(json.dumps(said))


asyncio.run(main(int(sys.argv[1])))
