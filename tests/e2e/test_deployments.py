"""The manifests of docs/how-to/deploy.md: what their probes and times ask of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from clients import MODELS, Server, until
from clients.process import ROOT, reserved_port

from omi_runtime.settings import Settings

DEPLOY = ROOT / "docs" / "how-to" / "deploy"


def container_of(manifest: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The specification of the pod, and its one container."""
    kind = next(yaml.safe_load_all((DEPLOY / manifest).read_text()))["spec"]
    pod = kind["template"]["spec"] if "template" in kind else kind["predictor"]
    (container,) = pod["containers"]
    return pod, container


def variables_of(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"]}


def answers(container: dict[str, Any], probe: str, port: int) -> bool:
    """What Kubernetes makes of a probe that asks this port."""
    path = container[probe]["httpGet"]["path"]
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=1.0, trust_env=False)
    except httpx.TransportError:
        return False
    return 200 <= answer.status_code < 400


@pytest.mark.parametrize("interface", ["omi", "kserve", "modzy"])
def test_the_deployments_probes_on_every_interface(
    interface: str, servers: Any, marks: Path
) -> None:
    _, container = container_of("kubernetes.yaml")
    variables = variables_of(container)
    (metrics,) = (port for port in container["ports"] if port["name"] == "metrics")
    assert str(metrics["containerPort"]) == variables["OMI_METRICS_PORT"]
    with reserved_port() as port:
        variables |= {"INTERFACE": interface, "OMI_METRICS_PORT": str(port), "HTTP_PORT": "0"}
        server: Server = servers(**variables, OMI_MODEL=f"{MODELS}:Gated", MARKS=marks)

        def says(probe: str) -> bool:
            assert container[probe]["httpGet"]["port"] == "metrics"
            return answers(container, probe, port)

        until((marks / "loading").exists, "the model loads")
        until(lambda: says("livenessProbe"), "it is alive")
        assert not says("startupProbe")
        assert not says("readinessProbe")
        (marks / "open").touch()
        until(lambda: says("readinessProbe"), "it is ready")
        assert says("startupProbe")
        server.signal()
        until(lambda: not says("readinessProbe"), "it says that it ends")
        assert says("livenessProbe")
        assert server.running


def test_the_predictors_probe(servers: Any) -> None:
    _, container = container_of("kserve.yaml")
    assert container["readinessProbe"]["httpGet"]["port"] == 8080
    server: Server = servers(**variables_of(container), OMI_MODEL=f"{MODELS}:Totals")
    port = server.port("kserve")
    until(lambda: answers(container, "readinessProbe", port), "it is ready")
    server.signal()
    until(lambda: not answers(container, "readinessProbe", port), "it says that it ends")
    assert server.running


def test_the_platform_waits_as_long_as_a_stop_takes() -> None:
    pod, container = container_of("kubernetes.yaml")
    delay = float(variables_of(container)["OMI_DRAIN_DELAY"])
    probe = container["readinessProbe"]
    assert pod["terminationGracePeriodSeconds"] >= delay + Settings().grace + 1
    assert delay > probe["periodSeconds"] * probe["failureThreshold"]
