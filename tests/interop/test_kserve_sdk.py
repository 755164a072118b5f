"""KServe's SDK in this runtime: its ModelServer, its models, and its types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from clients import (
    MODELS,
    Answer,
    KServeGRPCClient,
    KServeV1Client,
    KServeV2Client,
    ModzyClient,
    OMIClient,
    Spec,
    is_failure,
    until,
)
from clients.process import EXAMPLES, OMI, reserved_port, run, taken_port
from environments import PEERS, Environment, kserve_sdk

from omi_runtime.errors import ErrorCode

TOTALS = Spec(f"{MODELS}:Totals", "totals", {"pair": "FP32"}, {"total": "FP32"})
THEIRS = PEERS / "kserve_models.py"
DOUBLING = Spec(f"{THEIRS}:Doubling", "doubling", {"instance": "json"}, {"prediction": "json"})
SUMMING = Spec(f"{THEIRS}:Summing", "summing", {"pair": "FP32"}, {"sum": "FP32"})


@pytest.fixture(scope="module")
def sdk() -> Environment:
    return kserve_sdk()


def in_environment(sdk: Environment, servers: Any, **variables: Any) -> Any:
    return servers(sdk.python, "-m", "omi_runtime", **variables)


# ------------------------------------------------------------------------ its server


def test_the_same_handler_in_kserves_own_server(
    sdk: Environment, servers: Any, marks: Path, tmp_path: Path, later: Any
) -> None:
    server = in_environment(
        sdk,
        servers,
        INTERFACE="kserve",
        OMI_KSERVE_SERVER="sdk",
        OMI_MODEL=TOTALS.source,
        OMI_ADMIN="on",
        MARKS=marks,
    )
    assert server.port("kserve")
    assert "INTERFACE=kserve (KServe's ModelServer; gRPC V2 on port" in server.log
    assert "listens on every address: OMI_HOST=127.0.0.1 has no effect on it" in server.log
    http = httpx.Client(base_url=f"http://127.0.0.1:{server.port('kserve')}", trust_env=False)
    answer = http.post("/v1/models/totals:predict", json={"instances": [[1, 2], [3, 4]]})
    assert answer.json() == {"predictions": [3.0, 7.0]}
    # Nobody takes the model away, for nobody could bring it back.
    for verb in ("load", "unload"):
        answer = http.post(f"/v2/repository/models/totals/{verb}")
        assert answer.status_code == 501, answer.text
        assert "loading 'totals' is not offered with OMI_KSERVE_SERVER=sdk" in answer.text
    with KServeGRPCClient(KServeGRPCClient.port_of(server), TOTALS, tmp_path) as client:
        for method in ("RepositoryModelLoad", "RepositoryModelUnload"):
            with pytest.raises(grpc.RpcError) as refusal:
                # KServe's requests have the name in the field where Triton's have the repository.
                client.ask(method, repository_name="totals")
            assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED, refusal.value
            assert "loading 'totals' is not offered" in refusal.value.details()
        assert client.infer([{"pair": [1.0, 2.0]}]) == [Answer({"total": 3.0})]
        (refused,) = client.infer([{"pair": [-1.0, 5.0]}])
        assert is_failure(refused, ErrorCode.INVALID_INPUT), refused
        # What is in flight is answered, and the process ends with 0.
        held = later(lambda: client.infer([{"pair": [-8.0, 20.0]}]))
        until((marks / "holding").exists, "a prediction runs")
        server.signal()
        server.wait_for_log("Stopping the model server")
        (marks / "release").touch()
        assert held() == [Answer({"total": 12.0})]
    assert server.wait() == 0, server.log
    http.close()


def test_its_ports_are_checked_as_ours_are(sdk: Environment, marks: Path) -> None:
    with taken_port() as port, reserved_port() as other:
        done = sdk.run(
            *("-m", "omi_runtime"),
            INTERFACE="kserve",
            OMI_KSERVE_SERVER="sdk",
            OMI_MODEL=TOTALS.source,
            MARKS=str(marks),
            HTTP_PORT=str(other),
            OMI_GRPC_PORT=str(port),
        )
    assert done.code == 3, done
    assert f"omi: port {port} (OMI_GRPC_PORT) is in use" in done.err


def test_without_the_sdk_it_says_what_to_install(marks: Path) -> None:
    pytest.importorskip("omi_kserve")
    done = run(
        *(OMI, "serve", TOTALS.source),
        INTERFACE="kserve",
        OMI_KSERVE_SERVER="sdk",
        HTTP_PORT="0",
        MARKS=str(marks),
    )
    assert done.code == 2, done
    assert "pip install 'omi-runtime[kserve]'" in done.err


# ------------------------------------------------------------------------ its models


def test_a_model_of_v1_on_every_interface(sdk: Environment, servers: Any, tmp_path: Path) -> None:
    server = in_environment(
        sdk, servers, INTERFACE="kserve,omi,modzy", PSC_MODEL_PORT="0", OMI_MODEL=DOUBLING.source
    )
    for wire in (OMIClient, KServeV1Client, KServeV2Client, KServeGRPCClient, ModzyClient):
        with wire(wire.port_of(server), DOUBLING, tmp_path) as client:
            until(client.ready, "the model has loaded")
            outcomes = client.infer([{"instance": 2}, {"instance": 1.5}])
            assert outcomes == [Answer({"prediction": 4}), Answer({"prediction": 3.0})], wire.wire
            (refused,) = client.infer([{"instance": "two"}])
            assert is_failure(refused, ErrorCode.INVALID_INPUT), refused
            assert "'two' is no number" in refused.message
            if client.explains:
                (explained,) = client.infer([{"instance": 2}], explain=True)
                assert explained == Answer({"prediction": 4}, {"factor": 2}), wire.wire


def test_a_model_of_v2_on_every_interface(sdk: Environment, servers: Any, tmp_path: Path) -> None:
    server = in_environment(
        sdk, servers, INTERFACE="kserve,omi,modzy", PSC_MODEL_PORT="0", OMI_MODEL=SUMMING.source
    )
    for wire in (OMIClient, KServeV1Client, KServeV2Client, KServeGRPCClient, ModzyClient):
        with wire(wire.port_of(server), SUMMING, tmp_path) as client:
            until(client.ready, "the model has loaded")
            outcomes = client.infer([{"pair": [1.0, 2.0]}, {"pair": [3.0, 4.0]}])
            assert outcomes == [Answer({"sum": 3.0}), Answer({"sum": 7.0})], wire.wire


@pytest.mark.parametrize(
    ("named", "code", "told"),
    [
        ("", 2, "has several models (Doubling, Summing, Unready): add :Doubling"),
        (":Unready", 3, "Unready.load has not set self.ready"),
        (":Nobody", 2, "has no Nobody"),
    ],
)
def test_models_that_cannot_be_served(sdk: Environment, named: str, code: int, told: str) -> None:
    done = sdk.run("-m", "omi_runtime", OMI_MODEL=f"{THEIRS}{named}", HTTP_PORT="0")
    assert done.code == code, done
    assert told in done.err, done


# ------------------------------------------------------------------------ its types


def test_the_manifest_has_nothing_that_kserves_types_do_not_know(
    sdk: Environment, tmp_path: Path
) -> None:
    arguments = ("manifest", "kserve", str(EXAMPLES / "iris"), "--image", "iris:1")
    printed = run(OMI, *arguments)
    assert printed.code == 0, printed
    file = tmp_path / "manifest.yaml"
    file.write_text(printed.out)
    done = sdk.run(str(PEERS / "kserve_types.py"), str(file))
    assert done.code == 0, done
    assert done.out.split() == ["InferenceService", "kserve-container", "iris:1"]
