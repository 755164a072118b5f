"""Asking a server whether its model can infer, from outside: for `omi health`.

They raise Unhealthy, with what a person is told. They start no event loop and no thread of ours: a
container's health check runs them every few seconds.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import grpc


class Unhealthy(Exception):
    """The server does not answer, or its model cannot infer."""


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens.

    Attributes:
        timeout: seconds that an answer may take.
        certificate, key: the server's own, PEM files, if it speaks TLS: nothing else is trusted,
            whatever name it is made out for; and shown, if it asks for a client's.
    """

    host: str
    port: int
    timeout: float
    certificate: str = ""
    key: str = ""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def check_http(endpoint: Endpoint, path: str) -> None:
    """Ask for a path, which answers 200 when the model can infer.

    Raises:
        Unhealthy: it answers something else, or nothing.
    """
    connection = _connection(endpoint)
    try:
        connection.request("GET", path, headers={"connection": "close"})
        response = connection.getresponse()
        body = response.read(1000).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise Unhealthy(f"GET {path} on {endpoint}: {_text(error)}") from None
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise Unhealthy(f"GET {path} on {endpoint}: {response.status} {body}")


def check_grpc(endpoint: Endpoint) -> None:
    """Ask the standard health service, `grpc.health.v1.Health`.

    Raises:
        Unhealthy: it does not say SERVING, or does not answer.
    """
    import grpc  # noqa: PLC0415 - not where a server speaks HTTP

    from omi_runtime.transport._pb import health_pb2 as pb  # noqa: PLC0415

    with _channel(endpoint) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            pb.HealthCheckRequest.SerializeToString,
            pb.HealthCheckResponse.FromString,
        )
        try:
            response = check(pb.HealthCheckRequest(), timeout=endpoint.timeout)
        except grpc.RpcError as error:
            raise Unhealthy(
                f"Health/Check on {endpoint}: {error.code().name} {error.details()}"
            ) from None
    if response.status != pb.HealthCheckResponse.SERVING:
        status = pb.HealthCheckResponse.ServingStatus.Name(response.status)
        raise Unhealthy(f"Health/Check on {endpoint}: {status}")


def _connection(endpoint: Endpoint) -> http.client.HTTPConnection:
    host, port, timeout = endpoint.host, endpoint.port, endpoint.timeout
    if not endpoint.certificate:
        return http.client.HTTPConnection(host, port, timeout=timeout)
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=_trust(endpoint))


def _channel(endpoint: Endpoint) -> grpc.Channel:
    import grpc  # noqa: PLC0415 - not where a server speaks HTTP

    if not endpoint.certificate:
        return grpc.insecure_channel(str(endpoint), _OPTIONS)
    certificate = Path(endpoint.certificate).read_bytes()
    credentials = grpc.ssl_channel_credentials(
        certificate, Path(endpoint.key).read_bytes(), certificate
    )
    # gRPC insists on a name: that which the certificate is made out for.
    name = ("grpc.ssl_target_name_override", _name(endpoint))
    return grpc.secure_channel(str(endpoint), credentials, (*_OPTIONS, name))


_OPTIONS: Final = (("grpc.enable_http_proxy", 0),)


def _trust(endpoint: Endpoint) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=endpoint.certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_cert_chain(endpoint.certificate, endpoint.key)
    return context


def _name(endpoint: Endpoint) -> str:
    """The first name that the server's certificate is made out for.

    Raises:
        Unhealthy: there is no server, or none with this certificate.
    """
    try:
        with (
            socket.create_connection((endpoint.host, endpoint.port), endpoint.timeout) as plain,
            _trust(endpoint).wrap_socket(plain) as secure,
        ):
            certificate = secure.getpeercert() or {}
    except OSError as error:
        raise Unhealthy(f"{endpoint}: {_text(error)}") from None
    names: Any = certificate.get("subjectAltName", ())
    return str(names[0][1]) if names else endpoint.host


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
