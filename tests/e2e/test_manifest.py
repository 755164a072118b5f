"""`omi manifest`: what it prints is valid for the platform, and fits the container."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from clients.process import EXAMPLES, MODELS, OMI, Finished, run

from omi_runtime.errors import SettingsError
from omi_runtime.kubernetes import quantity

IRIS = str(EXAMPLES / "iris")
IMAGE = "registry.example.org/iris:1.0.0"


def manifest(*arguments: str, **variables: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(printed(arguments, tuple(variables.items()))))


@functools.cache
def printed(arguments: tuple[str, ...], variables: tuple[tuple[str, str], ...]) -> str:
    done = run(OMI, "manifest", *arguments, "--image", IMAGE, **dict(variables))
    assert done.code == 0, str(done)
    assert done.err == ""
    return done.out


def container_of(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    return container


def variables_of(pod: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container_of(pod)["env"]}


def pod_of(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (deployment,) = [one for one in objects if one["kind"] == "Deployment"]
    return deployment["spec"]["template"]["spec"]


def as_pod(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}


def validate(content: dict[str, Any]) -> None:
    kubernetes_validate.validate(content, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("interface", ["omi", "kserve", "modzy", "kserve,omi"])
def test_kubernetes_objects_are_what_the_api_takes(interface: str) -> None:
    settings = {"INTERFACE": interface, "HTTP_PORT": "8000", "OMI_METRICS_PORT": ""}
    objects = manifest("kubernetes", IRIS, **settings)
    assert [one["kind"] for one in objects] == ["Deployment", "Service", "NetworkPolicy"]
    for one in objects:
        validate(one)
        assert one["metadata"]["name"] == "iris"
    pod = pod_of(objects)
    assert variables_of(pod)["INTERFACE"] == interface
    assert variables_of(pod)["HTTP_PORT"] == "8000"
    opened = {port["containerPort"] for port in container_of(pod)["ports"]}
    served = {port["port"] for port in objects[1]["spec"]["ports"]}
    let_in = {port["port"] for port in objects[2]["spec"]["ingress"][0]["ports"]}
    assert opened == served == let_in
    assert opened >= ({8000, 45000} if interface == "kserve,omi" else {8000})
    names = {port["name"] for port in container_of(pod)["ports"]}
    # Metrics have a port of their own where no interface has a place for them.
    assert ("http-metrics" in names) == (interface == "omi")
    assert (9090 in opened) == (interface == "omi")
    assert {port["targetPort"] for port in objects[1]["spec"]["ports"]} == names


def test_a_schema_that_is_not_met_would_be_noticed() -> None:
    deployment, *_ = manifest("kubernetes", IRIS)
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 5
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(deployment)


@pytest.mark.parametrize(
    ("interface", "ready", "live"),
    [
        ("omi", {"grpc": {"port": 8000}}, {"tcpSocket": {"port": 8000}}),
        (
            "kserve",
            {"httpGet": {"path": "/v2/health/ready", "port": 8000}},
            {"httpGet": {"path": "/v2/health/live", "port": 8000}},
        ),
        (
            "modzy",
            {"httpGet": {"path": "/status", "port": 8000}},
            {"tcpSocket": {"port": 8000}},
        ),
    ],
)
def test_probes_ask_what_the_interface_answers(
    interface: str, ready: dict[str, Any], live: dict[str, Any]
) -> None:
    pod = pod_of(manifest("kubernetes", IRIS, INTERFACE=interface, HTTP_PORT="8000"))
    container = container_of(pod)
    for probe, asked in (("startup", ready), ("readiness", ready), ("liveness", live)):
        assert container[f"{probe}Probe"].items() >= asked.items()
    # The load may take the 60 s that model.yaml allows for a Status.
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 60


@pytest.mark.parametrize(
    ("interface", "client_ca", "ready"),
    [
        ("kserve", "", {"httpGet": {"path": "/v2/health/ready", "port": 8000, "scheme": "HTTPS"}}),
        ("kserve", "ca.pem", {"tcpSocket": {"port": 8000}}),
        ("omi", "", {"tcpSocket": {"port": 8000}}),
    ],
)
def test_probes_under_tls(
    interface: str, client_ca: str, ready: dict[str, Any], tmp_path: Path
) -> None:
    files = {name: str(tmp_path / name) for name in ("cert.pem", "key.pem", "ca.pem")}
    objects = manifest(
        "kubernetes",
        IRIS,
        INTERFACE=interface,
        HTTP_PORT="8000",
        OMI_TLS_CERT=files["cert.pem"],
        OMI_TLS_KEY=files["key.pem"],
        OMI_TLS_CLIENT_CA=files.get(client_ca, ""),
    )
    validate(objects[0])
    assert container_of(pod_of(objects))["readinessProbe"].items() >= ready.items()


def test_the_pod_is_hardened_and_has_time_to_drain() -> None:
    objects = manifest("kubernetes", IRIS, OMI_GRACE="60", OMI_DRAIN_DELAY="7.5")
    pod, policy = pod_of(objects), objects[2]["spec"]
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["terminationGracePeriodSeconds"] == 68 + 5
    assert variables_of(pod)["OMI_DRAIN_DELAY"] == "7.5"
    assert variables_of(pod)["OMI_GRACE"] == "60"
    assert container_of(pod)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert policy["egress"] == []
    assert "Egress" in policy["policyTypes"]


def test_resources_are_those_of_model_yaml(tmp_path: Path) -> None:
    amounts = {"cpu": "1", "memory": "512M"}
    pod = pod_of(manifest("kubernetes", IRIS))
    assert container_of(pod)["resources"] == {"requests": amounts, "limits": amounts}
    pod = pod_of(manifest("kubernetes", f"{MODELS}:Totals"))
    assert "resources" not in container_of(pod)
    source = Path(IRIS)
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    yaml_file = tmp_path / "model.yaml"
    text = yaml_file.read_text()
    for old, new in (
        ("512M", "2 GB"),
        ("count: 1\n", "count: 0.5\n"),
        ("count: 0\n", "count: 2\n"),
    ):
        text = text.replace(old, new)
    yaml_file.write_text(text)
    objects = manifest("kubernetes", str(tmp_path))
    validate(objects[0])
    amounts = {"cpu": "0.5", "memory": "2G", "nvidia.com/gpu": "2"}
    assert container_of(pod_of(objects))["resources"]["limits"] == amounts


@pytest.mark.parametrize(
    ("size", "expected"),
    [("512M", "512M"), ("2 GB", "2G"), ("1.5Gi", "1.5Gi"), ("64k", "64k"), ("100", "100")],
)
def test_sizes_become_quantities(size: str, expected: str) -> None:
    assert quantity(size) == expected


@pytest.mark.parametrize("size", ["lots", "M", "-1G", "1 G M"])
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(SettingsError, match=r"resources\.memory\.size"):
        quantity(size)


@pytest.mark.parametrize(
    ("interface", "spoken"),
    [("", "kserve"), ("kfserving", "kserve"), ("omi", "kserve"), ("omi,kserve", "kserve,omi")],
)
def test_kserve_gets_an_inference_service(interface: str, spoken: str) -> None:
    service, policy = manifest("kserve", IRIS, INTERFACE=interface, MODEL_NAME="Iris 2")
    assert (service["apiVersion"], service["kind"]) == (
        "serving.kserve.io/v1beta1",
        "InferenceService",
    )
    assert service["metadata"]["name"] == "iris-2"
    predictor = service["spec"]["predictor"]
    validate(as_pod({k: v for k, v in predictor.items() if k != "minReplicas"}))
    validate(policy)
    assert container_of(predictor)["name"] == "kserve-container"
    # KServe sends requests to the first port, so kserve has to be there.
    variables = variables_of(predictor)
    assert variables["INTERFACE"] == spoken
    assert variables["MODEL_NAME"] == "Iris 2"
    assert container_of(predictor)["ports"][0]["containerPort"] == 8080
    assert predictor["terminationGracePeriodSeconds"] == 40
    assert policy["spec"]["podSelector"]["matchLabels"] == {
        "serving.kserve.io/inferenceservice": "iris-2"
    }


def refused(*arguments: str, **variables: str) -> Finished:
    done = run(OMI, "manifest", *arguments, **variables)
    assert done.out == ""
    assert done.err.startswith("omi: "), str(done)
    assert done.err.count("\n") == 1, str(done)
    return done


@pytest.mark.parametrize(
    ("arguments", "variables", "told"),
    [
        (["kubernetes", IRIS], {}, "--image is missing"),
        (["kserve", IRIS], {}, "--image is missing"),
        (["nomad", IRIS, "--image", IMAGE], {}, "NAME='nomad' is no manifest: expected one of "),
        (["kubernetes", IRIS, "--image", IMAGE], {"HTTP_PORT": "0"}, "HTTP_PORT=0"),
        (["kubernetes", IRIS, "--image", IMAGE], {"OMI_GRACE": "long"}, "OMI_GRACE='long'"),
        (["kubernetes", IRIS, "--image", IMAGE], {"OMI_GRASE": "5"}, "OMI_GRACE?"),
        (["kubernetes", IRIS, "--image", IMAGE, "--name", "Iris_2"], {}, "--name 'Iris_2'"),
        (["kubernetes", "no-such-model", "--image", IMAGE], {}, "OMI_MODEL='no-such-model'"),
    ],
)
def test_what_cannot_be_printed_is_told_in_a_line(
    arguments: list[str], variables: dict[str, str], told: str
) -> None:
    done = refused(*arguments, **variables)
    assert done.code == 2
    assert told in done.err


def test_a_name_may_be_given() -> None:
    service, _ = manifest("kserve", IRIS, "--name", "flowers")
    assert service["metadata"]["name"] == "flowers"
