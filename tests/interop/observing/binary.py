"""Rows about binary tensors, and about what JSON has no word for."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np

from observing.rest import echoed, infer, tensor
from observing.rows import row
from observing.sides import Running, Side
from observing.words import chosen, naming, statuses, told

LENGTH = "inference-header-content-length"
OCTETS = {"content-type": "application/octet-stream"}
NO_NUMBERS = (float("nan"), float("inf"))
PAIR = np.array([[1, 2]], "<i4").tobytes()


def send(server: Running, content: dict[str, Any], raw: bytes, **headers: str) -> httpx.Response:
    """Infer with the tensors' bytes after the JSON."""
    head = json.dumps(content).encode()
    return server.infer(head + raw, headers={LENGTH: str(len(head))} | OCTETS | headers)


def pair(size: int = len(PAIR), **more: Any) -> dict[str, Any]:
    """A request to Total, of one row, in binary."""
    parameters = {"binary_data_size": size}
    values = {"name": "values", "datatype": "INT32", "shape": [1, 2], "parameters": parameters}
    return {"inputs": [values]} | more


def echo(server: Running, datatype: str, raw: bytes) -> Any:
    """The bytes of one element that Datatypes gives back for these; or the status."""
    element = {"name": datatype.lower(), "datatype": datatype, "shape": [1]}
    asked = {
        "inputs": [element | {"parameters": {"binary_data_size": len(raw)}}],
        "outputs": [{"name": datatype.lower(), "parameters": {"binary_data": True}}],
    }
    answer = send(server, asked, raw)
    return payload(answer) if answer.is_success else answer.status_code


def payload(answer: httpx.Response) -> bytes:
    """What follows the JSON of an answer."""
    return answer.content[int(answer.headers[LENGTH]) :]


@row("wrong shape or size, a number out of range, no inputs")
def sizes(side: Side) -> str:
    total = side.ask("total")
    named = (
        total.infer(infer(inputs=[tensor(shape=[2, 3])])),
        total.infer(infer(inputs=[tensor(data=[1, 2, 3])])),
        total.infer(infer(inputs=[tensor(data=[2**31, 2, 3, 4])])),
        total.infer({"inputs": []}),
        send(total, pair(), PAIR[:4]),
    )
    unnamed = (send(total, {}, b""), send(total, pair(), PAIR, **{LENGTH: "many"}))
    return statuses(*named, *unnamed) + naming("values" in answer.text for answer in named)


@row("`binary_data_output` beside `outputs`")
def binary_by_default(side: Side) -> str:
    total = side.ask("total")
    parameters = {"binary_data_output": True}
    alone = send(total, pair(parameters=parameters), PAIR)
    beside = send(total, pair(parameters=parameters, outputs=[{"name": "total"}]), PAIR)
    overridden = {"name": "total", "parameters": {"binary_data": False}}
    plain = send(total, pair(parameters=parameters, outputs=[overridden]), PAIR)
    seen = tuple(LENGTH in answer.headers for answer in (alone, beside, plain))
    words = {
        (True, False, False): "ignored",
        (True, True, False): "holds for every output that says nothing else",
    }
    return chosen(seen, words)


@row("a binary answer")
def headers_of_answer(side: Side) -> str:
    answer = send(side.ask("total"), pair(parameters={"binary_data_output": True}), PAIR)
    assert payload(answer) == np.array([3], "<i8").tobytes(), answer.content
    there = tuple(name in answer.headers for name in ("content-type", "content-length"))
    words = {
        (False, False): "has no Content-Type and no Content-Length",
        (True, True): "has both",
    }
    return chosen(there, words)


@row("a binary request of `application/json`")
def binary_as_json(side: Side) -> str:
    total = side.ask("total")
    typed = {"content-type": "application/json"}
    no_utf8 = np.array([[-1, 1]], "<i4").tobytes()
    answers = [send(total, pair(), raw, **typed) for raw in (no_utf8, PAIR)]
    head = json.dumps(pair()).encode()
    untyped = total.infer(head + PAIR, headers={LENGTH: str(len(head))})
    assert untyped.is_success, untyped.text
    read = all(answer.is_success for answer in answers)
    return "is read, as with any other type or none" if read else told(*answers)


@row("binary BYTES that are not UTF-8")
def no_text(side: Side) -> str:
    element = b"\xff\x00\xfe"
    framed = len(element).to_bytes(4, "little") + element
    words = {framed: "any bytes, both ways", 500: "500"}
    return chosen(echo(side.ask("datatypes"), "BYTES", framed), words)


@row("the raw form, header length 0")
def raw_form(side: Side) -> str:
    answer = side.ask("total").infer(PAIR, headers={LENGTH: "0"} | OCTETS)
    if answer.is_success and payload(answer) == np.array([3], "<i8").tobytes():
        return "the body is the input"
    return statuses(answer)


@row("bytes after the last binary tensor")
def trailing(side: Side) -> str:
    answer = send(side.ask("total"), pair(), PAIR + b"more")
    if answer.is_success and answer.json()["outputs"][0]["data"] == [3]:
        return "ignored"
    return statuses(answer)


@row("FP16 in JSON, BF16")
def halves(side: Side) -> str:
    datatypes = side.ask("datatypes")
    half, brain = np.array([1.5], "<f2").tobytes(), np.array([1.5], "<f4").tobytes()[2:]
    ways = (
        _data(datatypes.infer(echoed("FP16", 1.5))),
        _data(send(datatypes, echoed_in_binary("FP16", half), half)),
        _data(datatypes.infer(echoed("BF16", 1.5))),
        echo(datatypes, "FP16", half) == half,
        echo(datatypes, "BF16", brain) == brain,
    )
    words = {
        (400, 400, 400, True, False): "400 both ways, unknown",
        (1.5, 1.5, 1.5, True, True): (
            "numbers in JSON, an extension of ours; their own bits in binary"
        ),
    }
    return chosen(ways, words)


@row("NaN and infinity in a JSON answer")
def no_numbers(side: Side) -> str:
    servers = [side.ask("datatypes")]
    if not side.kserve:
        servers.append(side.ask("datatypes", OMI_NAN="string"))
    seen = [tuple(_data(_number(server, value)) for value in NO_NUMBERS) for server in servers]
    words = {
        ((None, None),): "`null`, which nobody can tell from missing",
        ((500, 500), ("NaN", "Infinity")): "an error, or what `OMI_NAN` says",
    }
    return chosen(tuple(seen), words)


def echoed_in_binary(datatype: str, raw: bytes) -> dict[str, Any]:
    """A request to Datatypes whose one element is binary, and whose answer is JSON."""
    request = echoed(datatype, 0)
    del request["inputs"][0]["data"]
    request["inputs"][0]["parameters"] = {"binary_data_size": len(raw)}
    return request


def _number(server: Running, value: float) -> httpx.Response:
    raw = np.array([value], "<f8").tobytes()
    return send(server, echoed_in_binary("FP64", raw), raw)


def _data(answer: httpx.Response) -> Any:
    """The one element of the answer, or the status."""
    return answer.json()["outputs"][0]["data"][0] if answer.is_success else answer.status_code
