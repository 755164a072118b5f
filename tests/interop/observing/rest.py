"""Rows about V1 and V2 over REST, without binary tensors."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

from observing.rows import row
from observing.sides import Side
from observing.words import chosen, statuses, told


def tensor(**changed: Any) -> dict[str, Any]:
    """An input of Total."""
    return {"name": "values", "datatype": "INT32", "shape": [2, 2], "data": [1, 2, 3, 4]} | changed


def infer(**changed: Any) -> dict[str, Any]:
    """A good request to Total."""
    return {"inputs": [tensor()]} | changed


def echoed(datatype: str, *data: Any) -> dict[str, Any]:
    """A request to Datatypes: one tensor, which comes back."""
    name = datatype.lower()
    one = {"name": name, "datatype": datatype, "shape": [len(data)], "data": list(data)}
    return {"inputs": [one], "outputs": [{"name": name}]}


@row("a request that fails validation")
def validation(side: Side) -> str:
    total = side.ask("total")
    return told(
        total.infer({"inputs": ["values"]}),
        total.infer(infer(id=7)),
        total.infer([]),
        total.infer(b"", headers={"content-type": "application/json"}),
    )


@row("unknown routes and wrong methods")
def routes(side: Side) -> str:
    total = side.ask("total")
    return told(total.get("/v2/cats"), total.http.put("/v2/models/total/infer"))


@row("paths with a version")
def versions(side: Side) -> str:
    total = side.ask("total")
    path = "/v2/models/total/versions"
    here = (
        total.get(f"{path}/1.0.0"),
        total.get(f"{path}/1.0.0/ready"),
        total.post(f"{path}/1.0.0/infer", infer()),
    )
    seen = (statuses(*here), statuses(total.get(f"{path}/9")))
    return chosen(seen, {("501", "501"): "501", ("200", "404"): "served; another version is 404"})


@row("`id`, `parameters`, `model_version` of an answer")
def optional_keys(side: Side) -> str:
    total = side.ask("total")
    asked, bare = total.infer(infer(id="a")).json(), total.infer(infer()).json()
    assert asked["id"] == "a", asked
    nulls = [f"`{name}`" for name, value in sorted(bare.items()) if value is None]
    return "{}, {}".format(
        "an invented id" if bare.get("id") else "`id` only if given",
        f"null for {' and '.join(nulls)}" if nulls else "nothing null",
    )


@row("gzip and deflate")
def compression(side: Side) -> str:
    datatypes = side.ask("datatypes")
    request = echoed("INT32", *range(5000))
    seen: dict[str, set[Any]] = {"sent": set(), "got": set()}
    for coding, compress in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        packed = {"content-encoding": coding, "content-type": "application/json"}
        sent = datatypes.infer(compress(json.dumps(request).encode()), headers=packed)
        got = datatypes.infer(request, headers={"accept-encoding": coding})
        assert got.json()["outputs"][0]["data"] == list(range(5000))
        seen["sent"].add(sent.status_code)
        seen["got"].add(got.headers.get("content-encoding") == coding)
    words = {
        (frozenset({200}), frozenset({True})): "both ways",
        (frozenset({400}), frozenset({False})): (
            "400 for a compressed request, no compressed answer"
        ),
    }
    return chosen((frozenset(seen["sent"]), frozenset(seen["got"])), words)


@row("`extensions` of the server")
def extensions(side: Side) -> str:
    always = side.ask("total").get("/v2").json()["extensions"]
    offered = side.ask("tokens", OMI_ADMIN="on").get("/v2").json()["extensions"]
    told = ", ".join(f"`{name}`" for name in always)
    more = " and ".join(f"`{name}`" for name in sorted({*offered} - {*always}))
    return f"{told}, and {more} where they are offered" if more else told


@row("`/v2/repository/index`, generate")
def routes_of_triton(side: Side) -> str:
    tokens = side.ask("tokens", OMI_ADMIN="on")
    text = {"text_input": "hello you"}
    answers = (
        tokens.post("/v2/repository/index"),
        tokens.post("/v2/models/tokens/generate", text),
        tokens.post("/v2/models/tokens/generate_stream", text),
    )
    return chosen(statuses(*answers), {"200": "answered", "404": "404"})


@row("`GET /v2/`")
def slash(side: Side) -> str:
    total = side.ask("total")
    answer = total.get("/v2/")
    if answer.is_redirect:
        path = answer.headers["location"].removeprefix(total.address)
        return f"{answer.status_code} to `{path}`"
    same = answer.is_success and answer.json() == total.get("/v2").json()
    return chosen(same, {True: "answered as `/v2`"})


@row("a V1 body of `application/json; charset=utf-8`, or curl's own type")
def media_types(side: Side) -> str:
    total = side.ask("total")
    answers = [
        total.post("/v1/models/total:predict", b'{"instances": [[1, 2]]}', headers=headers)
        for headers in (
            {"content-type": "application/json; charset=utf-8"},
            {"content-type": "application/x-www-form-urlencoded"},
        )
    ]
    words = {
        '{"predictions":[3]}': "JSON",
        # What Python says when the model, which expects a dictionary, has been given bytes.
        '{"error":"TypeError : byte indices must be integers or slices, not str"}': (
            "the model gets raw bytes"
        ),
    }
    return chosen("; ".join(sorted({answer.text for answer in answers})), words)


@row("metadata of the model")
def metadata(side: Side) -> str:
    answer = side.ask("total").get("/v2/models/total").json()
    members = (f'"{key}": {json.dumps(answer[key])}' for key in ("platform", "versions"))
    return ", ".join(f"`{member}`" for member in members)


@row("CloudEvents over V2")
def events(side: Side) -> str:
    total = side.ask("total")
    attributes = {"specversion": "1.0", "id": "42", "source": "tests", "type": "org.example.asked"}
    headers = {f"ce-{name}": value for name, value in attributes.items()}
    in_binary = total.infer(infer(), headers=headers)
    in_structure = total.infer(
        json.dumps(attributes | {"data": infer()}).encode(),
        headers={"content-type": "application/cloudevents+json"},
    )
    answered = in_binary.headers.get("ce-type") == "io.kserve.inference.response"
    renewed = in_binary.headers.get("ce-id") not in (None, "42")
    words = {
        (True, True, 200): "answered by an event of their own in both modes",
        (True, True, 422): (
            "in binary mode answered by an event of their own; in structured mode the body is not "
            "unwrapped, and 422"
        ),
    }
    return chosen((answered, renewed, in_structure.status_code), words)
