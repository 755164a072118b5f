"""What Kubernetes is told of a container: Deployment, Service and NetworkPolicy, and their parts.

The objects are plain mappings with the keys of the Kubernetes API (apps/v1, v1 and
networking.k8s.io/v1). An interface that runs under a controller of its own, such as KServe, makes
its object from the same `pod_spec`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import yaml

from omi_runtime.adapter import Choice, ManifestRequest, Port, metrics_port
from omi_runtime.errors import SettingsError
from omi_runtime.timelimits import load_limit

Object = dict[str, Any]

DRAIN_DELAY: Final = 5.0
"""`OMI_DRAIN_DELAY` of a container, where it is not set: endpoints are removed while it is told to
stop, and until every router knows, requests still come."""

CLOSING_SECONDS: Final = 5
"""What is left beyond the drain for the process itself to end."""

ENDLESS_LOAD_SECONDS: Final = 24 * 3600.0
"""How long a startup probe is patient with a load that nothing limits."""

_STARTUP_PERIOD: Final = 2
_LONGEST_PORT_NAME: Final = 15
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
_NAME_LABEL: Final = "app.kubernetes.io/name"
_VERSION_LABEL: Final = "app.kubernetes.io/version"


def render(request: ManifestRequest) -> str:
    """Deployment, Service and NetworkPolicy as YAML, for `omi manifest kubernetes`."""
    return dump([deployment(request), service(request), network_policy(request)])


def dump(objects: Iterable[Object]) -> str:
    """Objects as documents of one YAML stream."""
    text: str = yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=100)
    return text


class _Dumper(yaml.SafeDumper):
    """Writes an object that occurs twice out twice: an alias is hard to read and to edit."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def deployment(request: ManifestRequest) -> Object:
    """The container, one replica of it, replaced without a gap."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": request.name, "labels": labels(request)},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": _selector(request)},
            # A new one is ready before an old one goes.
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": labels(request)},
                "spec": pod_spec(request, request.name),
            },
        },
    }


def service(request: ManifestRequest) -> Object:
    """The ports under one name."""
    ports = [
        {"name": name, "port": port.number, "targetPort": name, "appProtocol": protocol}
        for name, protocol, port in _named_ports(request)
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": request.name, "labels": labels(request)},
        "spec": {"selector": _selector(request), "ports": ports},
    }


def network_policy(request: ManifestRequest, selector: Mapping[str, str] | None = None) -> Object:
    """Requests may come to the ports from anywhere; nothing may go out, name look-ups included."""
    ports = [{"protocol": "TCP", "port": port.number} for _, _, port in _named_ports(request)]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": request.name, "labels": labels(request)},
        "spec": {
            "podSelector": {"matchLabels": dict(selector or _selector(request))},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": ports}],
            "egress": [],
        },
    }


def pod_spec(request: ManifestRequest, container_name: str) -> Object:
    """The pod: one hardened container that is given the time to drain.

    Raises:
        SettingsError: no image was given, or a port is left to the system.
    """
    if not request.image:
        raise SettingsError("--image is missing: give the reference of the model's image")
    drain_delay = float(_variables(request)["OMI_DRAIN_DELAY"])
    return {
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": math.ceil(drain_delay + request.settings.grace)
        + CLOSING_SECONDS,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(request, container_name)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }


def labels(request: ManifestRequest) -> dict[str, str]:
    """The labels of everything that belongs to the model."""
    version = re.sub(r"[^A-Za-z0-9._-]", "-", request.card.version).strip("._-")
    return {**_selector(request), _VERSION_LABEL: version[:63]}


def quantity(size: str) -> str:
    """A size as model.yaml has it, such as `512M`, `2 GB` or `1.5Gi`, as the Kubernetes API does.

    Raises:
        SettingsError: it is none.
    """
    match = _SIZE.fullmatch(size.strip())
    if match is None:
        raise SettingsError(
            f"resources.memory.size of model.yaml is {size!r}: expected a size such as 512M or 2Gi"
        )
    number, unit, binary = match[1], match[2].upper(), match[3].lower()
    if not unit:
        return number
    return f"{number}{unit}i" if binary else f"{number}{'k' if unit == 'K' else unit}"


def _selector(request: ManifestRequest) -> dict[str, str]:
    return {_NAME_LABEL: request.name}


def _container(request: ManifestRequest, name: str) -> Object:
    container: Object = {
        "name": name,
        "image": request.image,
        "env": [{"name": key, "value": text} for key, text in _variables(request).items()],
        "ports": [
            {"name": port_name, "containerPort": port.number, "protocol": "TCP"}
            for port_name, _, port in _named_ports(request)
        ],
        **_probes(request),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - a volume of its own
    }
    resources = _resources(request)
    if resources:
        container["resources"] = resources
    return container


def _variables(request: ManifestRequest) -> dict[str, str]:
    """The container's environment: what decides how it is reached, and what is set beside."""
    return {
        "INTERFACE": ",".join(choice.interface for choice in request.choices),
        "HTTP_PORT": str(request.choices[0].port.number),
        "MODEL_NAME": request.card.name,
        "OMI_DRAIN_DELAY": f"{DRAIN_DELAY:g}",
        **request.variables,
    }


def _resources(request: ManifestRequest) -> Object:
    """What model.yaml asks for, as request and as limit: threads are as many as the CPUs' quota."""
    needs = request.card.resources
    amounts: dict[str, str] = {}
    if needs.cpus:
        amounts["cpu"] = f"{needs.cpus:g}"
    if needs.ram:
        amounts["memory"] = quantity(needs.ram)
    if needs.gpus:
        amounts["nvidia.com/gpu"] = str(needs.gpus)
    return {"requests": amounts, "limits": dict(amounts)} if amounts else {}


def _probes(request: ManifestRequest) -> Object:
    """Of the first interface; all of them share one model."""
    choice = request.choices[0]
    seconds = min(load_limit(request.card, request.settings).seconds, ENDLESS_LOAD_SECONDS)
    ready = _ready(choice, request)
    return {
        "startupProbe": {
            **ready,
            "periodSeconds": _STARTUP_PERIOD,
            "timeoutSeconds": 5,
            "failureThreshold": math.ceil(seconds / _STARTUP_PERIOD),
        },
        "readinessProbe": {
            **ready,
            "periodSeconds": 5,
            "timeoutSeconds": 5,
            "failureThreshold": 2,
        },
        "livenessProbe": {
            **_live(choice, request),
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
    }


def _ready(choice: Choice, request: ManifestRequest) -> Object:
    path = choice.adapter.probes.ready
    if not path and not request.settings.tls_cert:
        return {"grpc": {"port": choice.port.number}}
    return _asks(path, choice, request)


def _live(choice: Choice, request: ManifestRequest) -> Object:
    return _asks(choice.adapter.probes.live, choice, request)


def _asks(path: str, choice: Choice, request: ManifestRequest) -> Object:
    """By HTTP, or else by a connection alone; Kubernetes probes gRPC without TLS only."""
    number = choice.port.number
    # Whoever asks for certificates does not get one from Kubernetes' probes.
    if not path or request.settings.tls_client_ca:
        return {"tcpSocket": {"port": number}}
    scheme = {"scheme": "HTTPS"} if request.settings.tls_cert else {}
    return {"httpGet": {"path": path, "port": number, **scheme}}


def _named_ports(request: ManifestRequest) -> Iterator[tuple[str, str, Port]]:
    """Every port with a name and what it speaks, `http` or `grpc`."""
    for choice in request.choices:
        protocol = "http" if choice.adapter.probes.ready else "grpc"
        for spoken, port in ((protocol, choice.port), *choice.further_ports.items()):
            # A name that begins with the protocol tells it to service meshes too.
            yield (
                f"{spoken}-{choice.interface}"[:_LONGEST_PORT_NAME].rstrip("-"),
                spoken,
                _known(port),
            )
    metrics = metrics_port(request.settings, request.choices)
    if metrics is not None:
        yield "http-metrics", "http", _known(metrics)


def _known(port: Port) -> Port:
    if not port.number:
        raise SettingsError(
            f"{port.origin}=0 lets the system choose a port, which a manifest cannot name"
        )
    return port
