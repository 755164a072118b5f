"""`omi_grpc.client`, synchronous and asynchronous, and `omi predict --url`, on real servers."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import trustme
from clients import process
from golden_servers import Serve, Server
from omi_grpc import client_messages
from omi_grpc._pb import inference_pb2 as pb
from omi_grpc._pb import model_pb2
from omi_grpc.client import Answer, AsyncClient, Client, NotLoaded, PredictionFailed

MODELS = Path(__file__).with_name("models_v2.py")
PATIENCE = 60.0
PREFIX = "Failed to process model input. Exception Encountered: "


class Asynchronous:
    """AsyncClient with the face of Client, so that one suite serves both."""

    def __init__(self, target: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = self._run(self._make(target, options))

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._client.close())
        self._runner.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **options: self._run(method(*args, **options))

    def stream(self, items: Any) -> list[Any]:
        async def collect() -> list[Any]:
            return [response async for response in self._client.stream(items)]

        return self._run(collect())

    def _run(self, coroutine: Any) -> Any:
        return self._runner.run(coroutine)

    async def _make(self, target: str, options: dict[str, Any]) -> AsyncClient:
        return AsyncClient(target, **options)


@pytest.fixture(params=[Client, Asynchronous], ids=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes clients of both kinds, by the same arguments."""
    clients: list[Any] = []

    def connect(target: str, **options: Any) -> Any:
        clients.append(request.param(target, **{"patience": PATIENCE} | options).__enter__())
        return clients[-1]

    yield connect
    for client in clients:
        client.__exit__(None, None, None)


@pytest.mark.parametrize("target", ["{}", "grpc://{}", "grpc://{}/"])
def test_status_and_run(target: str, serve: Serve, connect: Any) -> None:
    client = connect(target.format(serve("Total", "omi").address))
    status = client.status()
    assert (status.status_code, status.model_info.model_name) == (200, "total")
    items = [
        {"values": [1, 2]},
        {"values": np.array([3, 4], np.int32)},
        {"values": b"[5, 6]"},
        {"values": "[7, 8]"},
        {"values": [13, 0]},
        {},
    ]
    *good, refused, missing = client.run(items)
    assert [answer.result for answer in good] == [3, 7, 11, 15]
    assert refused == Answer({}, PREFIX + "thirteen is refused")
    assert "is missing" in missing.error
    with pytest.raises(PredictionFailed, match="thirteen is refused"):
        _ = refused.result
    assert client.run([]) == []


def test_explanation_and_drift(serve: Serve, connect: Any) -> None:
    client = connect(serve("Total", "omi").address)
    (answer,) = client.run([{"values": [1, 2]}], explain=True, detect_drift=True)
    assert answer.data == {"data": {"result": 3, "explanation": {"largest": 2}, "drift": 0.5}}
    typed = connect(serve(f"{MODELS}:Typed", "omi").address)
    response = typed.predict({"text": "image"}, explain=True, detect_drift=True)
    assert response.explanation.image.mask.original_width == 2
    assert response.drift.data_drift.score == 0.25


def test_predict_has_types_and_tags(serve: Serve, connect: Any) -> None:
    client = connect(serve(f"{MODELS}:Typed", "omi").address)
    response = client.predict({"text": "hello"}, {"row": "17"})
    assert response.success
    assert dict(response.tags) == {"row": "17"}
    assert response.outputs[0].classification.class_predictions[0].score == 0.75
    refused = client.predict({"text": "refuse"})
    assert (refused.success, refused.error) == (False, "this text is refused")


def test_a_stream_of_inputs_and_requests(serve: Serve, connect: Any) -> None:
    client = connect(serve(f"{MODELS}:Doubled", "omi").address)
    items: list[Any] = [{"number": str(i)} for i in range(20, 120)]
    items[50] = pb.PredictRequest(inputs=[pb.Input(key="number", text="1")], tags={"odd": "one"})
    responses = list(client.stream(iter(items)))
    assert [response.success for response in responses] == [True] * 100
    assert [dict(response.tags) for response in responses][49:52] == [{}, {"odd": "one"}, {}]


async def test_a_stream_of_asynchronous_items_that_is_left_early(serve: Serve) -> None:
    sent = 0

    async def items() -> AsyncIterator[dict[str, int]]:
        nonlocal sent
        for i in range(100_000):
            sent += 1
            yield {"number": i + 20}

    async with AsyncClient(serve(f"{MODELS}:Doubled", "omi").address) as client:
        stream = client.stream(items())
        assert (await anext(stream)).success
        await stream.aclose()
        assert (await client.predict({"number": "3"})).success
    assert 0 < sent < 100_000


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (float("nan"), ValueError, "'values' holds NaN, which JSON cannot hold"),
        ([1, [float("inf")]], ValueError, "'values' holds Infinity"),
        (np.array([1, -np.inf], np.float32), ValueError, "'values' holds -Infinity"),
        ({"a": np.float64("nan")}, ValueError, "'values' holds NaN"),
        (object(), TypeError, "'values' cannot be sent as JSON: Type is not JSON"),
    ],
    ids=["float", "list", "array", "object", "no JSON"],
)
def test_an_input_that_json_cannot_hold_is_refused_by_name(
    value: Any, error: type[Exception], said: str, serve: Serve, connect: Any
) -> None:
    client = connect(serve("Total", "omi").address)
    good, bad = {"values": [1, 2]}, {"values": value}
    with pytest.raises(error, match=said):
        client.run([good, bad])
    with pytest.raises(error, match=said):
        client.predict(bad)
    with pytest.raises(error, match=said):
        list(client.stream([bad]))


@pytest.mark.parametrize(
    ("method", "argument", "said"),
    [
        ("run", {"values": [1, 2]}, "items: expected a list of mappings .*, got one mapping"),
        ("run", [[1, 2]], "items: each expected a mapping from names to values, got list"),
        ("run", "values", "items: each expected a mapping from names to values, got str"),
        ("predict", [{"values": [1, 2]}], "inputs: expected a mapping .*, got list"),
        ("stream", {"values": [1, 2]}, "items: expected a list of mappings .*, got one mapping"),
        ("stream", ["values"], "items: each expected a mapping from names to values, got str"),
    ],
)
def test_what_is_no_item_is_refused(
    method: str, argument: Any, said: str, serve: Serve, connect: Any
) -> None:
    client = connect(serve("Total", "omi").address)
    with pytest.raises(TypeError, match=said):
        list(getattr(client, method)(argument))


def test_items_may_come_from_an_iterator(serve: Serve, connect: Any) -> None:
    answers = connect(serve("Total", "omi").address).run({"values": [n, 1]} for n in range(3))
    assert [answer.result for answer in answers] == [1, 2, 3]


def test_an_item_that_cannot_be_sent_ends_a_stream_after_the_answers_before_it(
    serve: Serve,
) -> None:
    def items(failure: Exception | None = None) -> Iterator[Any]:
        yield {"number": 21}
        yield {"number": 22}
        if failure is not None:
            raise failure
        yield {"number": float("nan")}

    async def of_asynchronous(answered: list[Any]) -> None:
        async def asynchronous() -> AsyncIterator[Any]:
            for item in items():
                yield item

        async with AsyncClient(address) as client:
            async for response in client.stream(asynchronous()):
                answered.append(response)  # noqa: PERF401 - those before the error count

    address = serve(f"{MODELS}:Doubled", "omi").address
    answered: list[Any] = []
    with Client(address) as client:
        for failure, said in ((None, "'number' holds NaN"), (KeyError("mine"), "mine")):
            with pytest.raises((ValueError, KeyError), match=said):
                answered.extend(client.stream(items(failure)))
    with pytest.raises(ValueError, match="'number' holds NaN"):
        asyncio.run(of_asynchronous(answered))
    assert [response.success for response in answered] == [True] * 6


def test_a_server_that_starts_later_is_waited_for(servers: Any, connect: Any, later: Any) -> None:
    with process.reserved_port() as port:
        client = connect(f"127.0.0.1:{port}")
        pending = later(lambda: client.run([{"pair": [1, 2]}]))
        assert not pending.done
        servers(INTERFACE="omi", HTTP_PORT=port, OMI_MODEL=f"{process.MODELS}:Totals")
        (answer,) = pending()
    assert answer.result == 3


def test_patience_has_an_end(connect: Any) -> None:
    with process.reserved_port() as port:
        for patience, at_least in ((0.0, 0.0), (0.3, 0.3)):
            client = connect(f"127.0.0.1:{port}", patience=patience)
            begin = time.monotonic()
            with pytest.raises(grpc.RpcError) as caught:
                client.status()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert time.monotonic() - begin >= at_least


def test_other_errors_are_not_tried_again(serve: Serve, connect: Any) -> None:
    client = connect(serve("Total", "omi", OMI_ALLOW_SHUTDOWN="off").address)
    with pytest.raises(grpc.RpcError) as caught:
        client.shutdown()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_model_that_failed_to_load(serve: Serve, connect: Any, tmp_path: Path) -> None:
    key = tmp_path / "key"
    server = serve("Fragile", "omi", FRAGILE_KEY=str(key), OMI_LOAD_GRACE="300")
    client = connect(server.address)
    with pytest.raises(NotLoaded, match="500 Internal Server Error: Model Failed to Initialize"):
        client.run([{"text": "a"}])
    key.touch()
    (answer,) = client.run([{"text": "a"}])
    assert answer.result == "a"


def test_shutdown(serve: Serve, connect: Any) -> None:
    server = serve("Total", "omi", MODEL_NAME=f"ending-{secrets.token_hex(8)}")  # used by no other
    connect(server.address).shutdown()
    assert server.wait() == 0


@pytest.fixture
def pem(tmp_path: Path) -> Callable[[str], Path]:
    """Certificates and keys by name: `server`, `own`, each `.crt` and `.key`; `ca`, `other-ca`."""
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    other.cert_pem.write_to_path(tmp_path / "other-ca.crt")
    for name, issued in (
        ("server", authority.issue_cert("localhost", "127.0.0.1")),
        ("own", authority.issue_cert("somebody@example.org")),
    ):
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.crt")
        issued.private_key_pem.write_to_path(tmp_path / f"{name}.key")
    return lambda name: tmp_path / name


@pytest.fixture
def guarded(servers: Any, pem: Callable[[str], Path]) -> str:
    """The address of a server that wants certificates of its clients."""
    server = servers(
        INTERFACE="omi",
        OMI_MODEL=f"{process.MODELS}:Totals",
        OMI_TLS_CERT=pem("server.crt"),
        OMI_TLS_KEY=pem("server.key"),
        OMI_TLS_CLIENT_CA=pem("ca.crt"),
    )
    return f"grpcs://127.0.0.1:{server.port('omi')}"


def test_tls_and_mutual_tls(guarded: str, connect: Any, pem: Callable[[str], Path]) -> None:
    root, key, certificate = (pem(name).read_bytes() for name in ("ca.crt", "own.key", "own.crt"))
    client = connect(guarded, credentials=grpc.ssl_channel_credentials(root, key, certificate))
    assert [answer.result for answer in client.run([{"pair": [1, 2]}])] == [3]
    assert [each.success for each in client.stream([{"pair": [1, 2]}] * 2)] == [True, True]
    for stranger in (None, grpc.ssl_channel_credentials(root)):
        with pytest.raises(grpc.RpcError) as caught:
            connect(guarded, credentials=stranger, patience=0).status()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("target", ["http://localhost:1", "grpc://", ""])
def test_a_target_that_is_none(target: str) -> None:
    with pytest.raises(ValueError, match="expected host:port, grpc://… or grpcs://…"):
        Client(target)


# --- what comes from other servers ---


def test_an_item_with_an_error_failed_whatever_it_says_of_success() -> None:
    item = model_pb2.OutputItem(output={"error": b"because"}, success=True)
    (answer,) = client_messages.answers(model_pb2.RunResponse(outputs=[item]), 1)
    assert answer == Answer({}, "because")


def test_fewer_answers_than_items_are_an_error() -> None:
    response = model_pb2.RunResponse(status_code=200, message="Inference executed")
    with pytest.raises(ValueError, match="answered 2 items with 0 outputs: 200 Inference exec"):
        client_messages.answers(response, 2)


def test_a_result_in_a_form_of_its_own_is_given_whole() -> None:
    assert Answer({"results.json": b'{"label": "cat"}'}).result == {"label": "cat"}
    assert Answer({"results.json": b"[1]"}).result == [1]


# --- the command ---


def predict(server: Server | str, *arguments: str, **variables: str) -> process.Finished:
    url = server if isinstance(server, str) else f"grpc://{server.address}"
    command = (process.OMI, "predict", "--url", url)
    return process.run(*command, *arguments, seconds=PATIENCE, **variables)


def test_omi_predict_asks_a_server(serve: Serve, tmp_path: Path) -> None:
    server = serve("Total", "omi")
    done = predict(server, "--input", "values=[1, 2]", "--explain", "--drift")
    expected = '{"data":{"result":3,"explanation":{"largest":2},"drift":0.5}}\n'
    assert (done.code, done.out, done.err) == (0, expected, "")
    failed = predict(server, "--input", "values=[13, 0]")
    assert (failed.code, failed.out) == (1, "")
    assert failed.err == f"omi: {PREFIX}thirteen is refused\n"
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"abc")
    blob = serve("Blob", "omi")
    done = predict(blob, "--input", f"blob=@{picture}", "--output", str(tmp_path / "answer"))
    assert done.code == 0, done
    assert (tmp_path / "answer" / "mirrored").read_bytes() == b"cba"


def test_omi_predict_says_what_is_wrong_with_the_url(serve: Serve) -> None:
    server = serve("Total", "omi")
    other = predict(server, INTERFACE="kserve")
    assert (other.code, "has no client for --url" in other.err) == (2, True)
    both = predict(server, "model.py")
    assert (both.code, "MODEL or --url, not both" in both.err) == (2, True)


def test_omi_predict_over_tls(guarded: str, pem: Callable[[str], Path], later: Any) -> None:
    own = ("--cert", str(pem("own.crt")), "--key", str(pem("own.key")))
    item = ("--input", "pair=[1, 2]")

    def ask(ca: str, **variables: str) -> process.Finished:
        return predict(guarded, *item, *own, "--ca", str(pem(ca)), **variables)

    # Whoever is refused is so for as long as the client is patient: both at a time.
    quiet = later(lambda: ask("other-ca.crt"))
    debug = later(lambda: ask("other-ca.crt", OMI_LOG_LEVEL="debug"))
    done = ask("ca.crt")
    assert (done.code, done.out, done.err) == (
        0,
        '{"data":{"result":3.0,"explanation":null,"drift":null}}\n',
        "",
    )
    refused = quiet()
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith(f"omi: {guarded}: UNAVAILABLE: ")
    assert "CERTIFICATE_VERIFY_FAILED" in refused.err
    assert refused.err.count("\n") == 1
    assert debug().err.count("Handshake failed") > 1, "gRPC's own lines"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ca={own.key}"], "--ca {own.key}: expected PEM certificates"),
        (["--cert={own.crt}"], "--cert and --key belong together"),
        (["--cert={own.crt}", "--key={server.key}"], "expected a PEM certificate and its key"),
        (["--ca={nowhere}"], "'--ca': File '{nowhere}' does not exist"),
    ],
    ids=["no certificate", "no key", "another's key", "no file"],
)
def test_omi_predict_refuses_certificates_that_are_none(
    arguments: list[str], said: str, pem: Callable[[str], Path]
) -> None:
    def filled(text: str) -> str:
        return re.sub(r"\{(.*?)\}", lambda found: str(pem(found[1])), text)

    refused = predict("grpcs://localhost:1", *map(filled, arguments))
    assert refused.code == 2, refused
    assert filled(said) in refused.err


def test_omi_predict_takes_certificates_for_tls_alone(pem: Callable[[str], Path]) -> None:
    ca = ("--ca", str(pem("ca.crt")))
    plain = predict("grpc://localhost:1", *ca)
    assert (plain.code, "expected grpcs://host:port" in plain.err) == (1, True)
    alone = process.run(process.OMI, "predict", *ca)
    assert (alone.code, "are for --url" in alone.err) == (2, True)
