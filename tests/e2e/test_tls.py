"""TLS and mutual TLS on both transports, with certificates that are renewed while it serves."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from clients import MODELS, Spec, until
from clients.process import OMI, reserved_port, run, slowness
from omi_grpc._pb import model_pb2 as pb

from omi_runtime.transport._pb import health_pb2

TOTALS = Spec(f"{MODELS}:Totals", "totals", {"pair": "FP32"}, {"total": "FP32"})
BODY = b'{"instances": [[1, 2]]}'


class Files:
    """A certificate authority, and the files that a server is given."""

    def __init__(self, directory: Path) -> None:
        self.authority = trustme.CA()
        self.cert, self.key = directory / "tls.crt", directory / "tls.key"
        self.ca = directory / "ca.crt"
        self.authority.cert_pem.write_to_path(self.ca)
        self.renew()

    def renew(self, authority: trustme.CA | None = None) -> bytes:
        """Put another certificate in place, as a renewal does: each file by a rename."""
        issued = (authority or self.authority).issue_cert("localhost", "127.0.0.1")
        for path, data in (
            (self.key, issued.private_key_pem.bytes()),
            (self.cert, b"".join(part.bytes() for part in issued.cert_chain_pems)),
        ):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(data)
            fresh.replace(path)
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    @property
    def settings(self) -> dict[str, str]:
        return {"OMI_TLS_CERT": str(self.cert), "OMI_TLS_KEY": str(self.key)}

    def client(self, directory: Path) -> tuple[Path, Path]:
        """A client's certificate and key."""
        issued = self.authority.issue_cert("somebody@example.org")
        cert, key = directory / "client.crt", directory / "client.key"
        cert.write_bytes(issued.cert_chain_pems[0].bytes())
        key.write_bytes(issued.private_key_pem.bytes())
        return cert, key


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def serve(servers: Any) -> Any:
    def start(**settings: str) -> Any:
        return servers(
            INTERFACE="kserve,omi", OMI_MODEL=TOTALS.source, PSC_MODEL_PORT="0", **settings
        )

    return start


def shown(port: int, alpn: str, ca: Path, own: tuple[Path, Path] | None = None) -> bytes:
    """The certificate that a new client is shown, which has to fit the authority."""
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols([alpn])
    if own:
        context.load_cert_chain(*own)
    with (
        socket.create_connection(("127.0.0.1", port), 30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        assert secure.selected_alpn_protocol() == alpn
        certificate = secure.getpeercert(binary_form=True)
        assert certificate
        return certificate


def predict(port: int, ca: Path, own: tuple[Path, Path] | None = None) -> str:
    """A prediction over HTTPS; the whole answer, or an exception of TLS."""
    context = ssl.create_default_context(cafile=str(ca))
    if own:
        context.load_cert_chain(*own)
    with (
        socket.create_connection(("127.0.0.1", port), 30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        head = (
            "POST /v1/models/totals:predict HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            f"content-length: {len(BODY)}\r\n\r\n"
        )
        secure.sendall(head.encode() + BODY)
        with secure.makefile("rb") as stream:
            return stream.read().decode()


def is_refused(port: int, ca: Path, own: tuple[Path, Path] | None) -> bool:
    """Whether a client is sent away, which it learns in TLS 1.3 when it first reads."""
    try:
        return not predict(port, ca, own)
    except (ssl.SSLError, ConnectionError):
        return True


def call(port: int, ca: Path, own: tuple[Path, Path] | None = None) -> pb.RunResponse:
    """A prediction over gRPC with TLS."""
    cert, key = (path.read_bytes() for path in own) if own else (None, None)
    credentials = grpc.ssl_channel_credentials(ca.read_bytes(), key, cert)
    options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        run = channel.unary_unary(
            "/ModzyModel/Run", pb.RunRequest.SerializeToString, pb.RunResponse.FromString
        )
        item = pb.InputItem(input={"pair": b"[1, 2]"})
        return run(pb.RunRequest(inputs=[item]), timeout=30)


def test_both_transports_speak_tls_and_nothing_else(serve: Any, files: Files) -> None:
    server = serve(**files.settings)
    http, omi = server.port("kserve"), server.port("omi")
    answer = predict(http, files.ca)
    assert answer.startswith("HTTP/1.1 200 ")
    assert answer.endswith('{"predictions":[3.0]}')
    assert call(omi, files.ca).outputs[0].success
    with socket.create_connection(("127.0.0.1", http), 30) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert not plain.recv(100).startswith(b"HTTP")
    check = grpc.insecure_channel(f"127.0.0.1:{omi}").unary_unary(
        "/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest.SerializeToString
    )
    with pytest.raises(grpc.RpcError) as refused:
        check(health_pb2.HealthCheckRequest(), timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "try it: curl -sk https://127.0.0.1" in server.log
    assert "try it: grpcurl -insecure" in server.log
    server.signal()
    assert server.wait() == 0
    assert "Traceback" not in server.log


def test_clients_that_are_idle_do_not_hold_up_a_stop(serve: Any, files: Files) -> None:
    """They do not even read the farewell that TLS has."""
    server = serve(**files.settings)
    context = ssl.create_default_context(cafile=str(files.ca))
    with ExitStack() as clients:
        for interface, alpn in {"kserve": "http/1.1", "omi": "h2"}.items():
            context.set_alpn_protocols([alpn])
            plain = socket.create_connection(("127.0.0.1", server.port(interface)), 30)
            secure = context.wrap_socket(plain, server_hostname="localhost")
            clients.enter_context(secure)
        began = time.monotonic()
        server.signal()
        assert server.wait() == 0
        assert time.monotonic() - began < 10 * slowness(), "the grace is 30 s"


@pytest.mark.parametrize(
    ("host", "tls", "warns"),
    [("0.0.0.0", True, True), ("127.0.0.1", True, False), ("0.0.0.0", False, False)],
)
def test_the_port_of_the_metrics_is_plain_and_a_warning_says_so(
    servers: Any, files: Files, host: str, tls: bool, warns: bool
) -> None:
    with reserved_port() as side:
        settings = files.settings | {"OMI_TLS_CLIENT_CA": str(files.ca)} if tls else {}
        settings |= {"OMI_METRICS_PORT": str(side), "OMI_HOST": host, "OMI_WORKERS": "2"}
        server = servers(INTERFACE="omi", OMI_MODEL=TOTALS.source, **settings)
        server.wait_for_log("try it")
        client = http.client.HTTPConnection("127.0.0.1", side, timeout=30)
        client.request("GET", "/metrics")
        assert client.getresponse().status == 200
        client.close()
        assert server.log.count("plain HTTP to anybody") == int(warns)


def test_a_renewed_certificate_is_shown_to_the_next_client(serve: Any, files: Files) -> None:
    server = serve(**files.settings)
    ports = {"http/1.1": server.port("kserve"), "h2": server.port("omi")}
    old = {alpn: shown(port, alpn, files.ca) for alpn, port in ports.items()}
    context = ssl.create_default_context(cafile=str(files.ca))
    with (
        socket.create_connection(("127.0.0.1", ports["http/1.1"]), 30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as kept,
    ):
        new = files.renew()
        assert {alpn: shown(port, alpn, files.ca) for alpn, port in ports.items()} == dict.fromkeys(
            ports, new
        )
        assert new not in old.values()
        kept.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert kept.recv(12) == b"HTTP/1.1 200", "a connection that is open goes on"
    assert call(ports["h2"], files.ca).outputs[0].success
    # What is useless changes nothing, and is told.
    files.cert.write_bytes(b"no certificate")
    assert shown(ports["http/1.1"], "http/1.1", files.ca) == new
    assert shown(ports["h2"], "h2", files.ca) == new
    until(lambda: "the former TLS certificates stay in use" in server.log, "the log says so")
    # Nor does a key that has no certificate yet; the renewal ends well all the same.
    assert shown(ports["h2"], "h2", files.ca) == new
    newest = files.renew()
    assert shown(ports["h2"], "h2", files.ca) == newest
    assert shown(ports["http/1.1"], "http/1.1", files.ca) == newest


def test_clients_need_a_certificate_where_an_authority_is_named(
    serve: Any, files: Files, tmp_path: Path
) -> None:
    server = serve(**files.settings, OMI_TLS_CLIENT_CA=str(files.ca))
    http, omi = server.port("kserve"), server.port("omi")
    own = files.client(tmp_path)
    assert predict(http, files.ca, own).startswith("HTTP/1.1 200 ")
    assert call(omi, files.ca, own).outputs[0].success
    stranger = Files(_directory(tmp_path, "stranger")).client(_directory(tmp_path, "strange"))
    for nobody in (None, stranger):
        assert is_refused(http, files.ca, nobody)
        with pytest.raises(grpc.RpcError) as refused:
            call(omi, files.ca, nobody)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    # The authority may change as well.
    other = Files(_directory(tmp_path, "other"))
    files.ca.with_suffix(".mine").write_bytes(files.ca.read_bytes())
    files.ca.write_bytes(other.ca.read_bytes())
    mine = files.ca.with_suffix(".mine")
    assert predict(http, mine, other.client(tmp_path)).startswith("HTTP/1.1 200 ")
    assert call(omi, mine, other.client(tmp_path)).outputs[0].success
    assert is_refused(http, mine, files.client(tmp_path))
    with pytest.raises(grpc.RpcError):
        call(omi, mine, files.client(tmp_path))
    assert "Traceback" not in server.log


@pytest.mark.parametrize("mutual", [False, True], ids=["TLS", "mutual TLS"])
def test_health_is_asked_over_tls(
    serve: Any, files: Files, tmp_path: Path, *, mutual: bool
) -> None:
    own = files.settings | ({"OMI_TLS_CLIENT_CA": str(files.ca)} if mutual else {})
    stranger = Files(_directory(tmp_path, "stranger"))
    server = serve(**own)
    for interface in ("kserve", "omi"):
        ask = own | {"INTERFACE": interface, "HTTP_PORT": str(server.port(interface))}
        done = run(OMI, "health", **ask)
        assert (done.code, done.out) == (0, f"{interface}: ready\n"), done
        done = run(OMI, "health", "--timeout=5", **(ask | stranger.settings))
        assert done.code == 1, "it trusts the certificate of its settings and no other"
        assert done.err.startswith("omi: not ready: ")


def _directory(tmp_path: Path, name: str) -> Path:
    directory = tmp_path / name
    directory.mkdir()
    return directory


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"OMI_TLS_KEY": ""}, "OMI_TLS_KEY"),
        ({"OMI_TLS_CERT": ""}, "OMI_TLS_CERT"),
        ({"OMI_TLS_CERT": "", "OMI_TLS_KEY": "", "OMI_TLS_CLIENT_CA": "x"}, "OMI_TLS_CLIENT_CA"),
        ({"OMI_TLS_CERT": "/nowhere/tls.crt"}, "OMI_TLS_CERT='/nowhere/tls.crt'"),
        ({"OMI_TLS_KEY": "/nowhere/tls.key"}, "OMI_TLS_KEY='/nowhere/tls.key'"),
        ({"OMI_TLS_CLIENT_CA": "/nowhere/ca.crt"}, "OMI_TLS_CLIENT_CA='/nowhere/ca.crt'"),
        ({"OMI_TLS_CLIENT_CA": __file__}, "OMI_TLS_CLIENT_CA="),
        ({"OMI_TLS_CERT": __file__}, "OMI_TLS_CERT="),
    ],
    ids=str,
)
def test_files_that_are_none_are_refused_by_name(
    changed: dict[str, str], named: str, files: Files
) -> None:
    ended = run(OMI, "serve", OMI_MODEL=TOTALS.source, **(files.settings | changed))
    assert ended.code == 2, ended
    assert ended.err.startswith("omi: ")
    assert named in ended.err
    assert ended.err.count("\n") == 1


def test_kserves_own_server_which_has_no_tls_is_refused(files: Files) -> None:
    """Whether or not the SDK is installed."""
    done = run(
        *(OMI, "serve", TOTALS.source),
        INTERFACE="kserve",
        OMI_KSERVE_SERVER="sdk",
        OMI_TLS_CLIENT_CA=str(files.ca),
        **files.settings,
    )
    assert done.code == 2, done
    (line,) = done.err.splitlines()
    assert line.startswith("omi: OMI_KSERVE_SERVER='sdk' serves without TLS")
    for told in ("OMI_TLS_CERT, OMI_TLS_KEY, OMI_TLS_CLIENT_CA", "OMI_KSERVE_SERVER=native"):
        assert told in line
