"""A whole server against a client of the `h2` package, which may do what no good client does."""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
from clients import MODELS, until
from clients.process import PATIENCE, TESTS, Server, slowness
from hyperframe import frame as frames
from omi_grpc._pb import inference_pb2 as v2
from omi_grpc._pb import model_pb2 as pb

from omi_runtime.transport._pb import health_pb2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
RUN, STREAM = "/ModzyModel/Run", "/openmodel.v2.InferenceService/PredictStream"
CHECK = "/grpc.health.v1.Health/Check"
PROTOCOL_ERROR, FLOW_CONTROL, STREAM_CLOSED, FRAME_SIZE = 1, 3, 5, 6
COMPRESSION, CALM = 9, 11
LIMIT = 3_000_000
V2_MODELS = TESTS / "adapters" / "models_v2.py"


def framed(data: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(data)) + data


def to_echo(payload: bytes) -> bytes:
    request = pb.RunRequest(inputs=[pb.InputItem(input={"data": payload})])
    return framed(request.SerializeToString())


@dataclass
class Answer:
    """What has come on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int((self.trailers or self.headers)["grpc-status"])

    @property
    def message(self) -> str:
        return unquote((self.trailers or self.headers).get("grpc-message", ""))

    @property
    def echo(self) -> bytes:
        flag, size = struct.unpack(">BI", self.body[:5])
        assert (flag, size) == (0, len(self.body) - 5)
        (output,) = pb.RunResponse.FromString(self.body[5:]).outputs
        return bytes(output.output["echo"])


class Peer:
    """One connection; takes what comes while it waits for something."""

    def __init__(self, port: int, **settings: int) -> None:
        config = h2.config.H2Configuration(header_encoding="utf-8", validate_inbound_headers=True)
        self.h2 = h2.connection.H2Connection(config)
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(PATIENCE)
        self.answers: dict[int, Answer] = {}
        self.goaways: list[tuple[int, int]] = []  # code, and last stream
        # h2 would take nothing after the first, and a server that stops says it twice.
        self.h2._frame_dispatch_table[frames.GoAwayFrame] = self._note_goaway
        self.pongs: list[bytes] = []
        self.takes = True
        self.gone = False
        self.h2.initiate_connection()
        if settings:
            self.h2.update_settings({int(key[1:]): value for key, value in settings.items()})
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        self.raw(self.h2.data_to_send())

    def raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send(self, *some: Any) -> None:
        """Frames, whatever h2 would think of them."""
        self.flush()
        self.raw(b"".join(one.serialize() for one in some))

    def open(self, path: str = RUN, *more: tuple[str, str], ends: bool = False, **own: str) -> int:
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x"}
        fields |= {"te": "trailers", "content-type": "application/grpc"}
        fields |= {(f":{k[1:]}" if k[0] == "_" else k.replace("_", "-")): own[k] for k in own}
        stream_id = self.h2.get_next_available_stream_id()
        self.answers[stream_id] = Answer()
        self.h2.send_headers(stream_id, [*fields.items(), *more], end_stream=ends)
        self.flush()
        return stream_id

    def data(
        self, stream_id: int, data: bytes, *, ends: bool = True, pad: int | None = None
    ) -> None:
        """DATA, as the windows allow."""
        view = memoryview(data)
        while view or ends:
            beside = 0 if pad is None else pad + 1
            room = self.h2.local_flow_control_window(stream_id) - beside
            room = min(room, self.h2.max_outbound_frame_size - beside)
            if view and room <= 0:
                self.take()
                continue
            part, view = view[:room], view[room:]
            last = ends and not view
            self.h2.send_data(stream_id, bytes(part), end_stream=last, pad_length=pad)
            self.flush()
            if last:
                return

    def call(self, data: bytes, path: str = RUN, **own: str) -> Answer:
        stream_id = self.open(path, **own)
        self.data(stream_id, data)
        return self.answer(stream_id)

    def answer(self, stream_id: int) -> Answer:
        answer = self.answers[stream_id]
        self.wait(lambda: answer.ended or answer.reset is not None)
        return answer

    def wait(self, condition: Callable[[], Any]) -> None:
        while not condition():
            assert self.take(), "the server has closed the connection"

    def wait_for_end(self) -> None:
        with suppress(ConnectionResetError):
            while self.take():
                pass
        self.gone = True

    def take(self) -> bool:
        data = self.socket.recv(65536)
        for event in self.h2.receive_data(data) if data else []:
            self._note(event)
        self.flush()
        return bool(data)

    def _note(self, event: Any) -> None:
        answer = self.answers.get(getattr(event, "stream_id", None) or 0, Answer())
        match event:
            case h2.events.ResponseReceived():
                answer.headers = dict(event.headers)
            case h2.events.TrailersReceived():
                answer.trailers = dict(event.headers)
            case h2.events.DataReceived():
                answer.body += event.data
                if self.takes and event.flow_controlled_length:
                    size = event.flow_controlled_length
                    with suppress(h2.exceptions.StreamClosedError):
                        self.h2.increment_flow_control_window(size, event.stream_id)
                    self.h2.increment_flow_control_window(size)
            case h2.events.StreamEnded():
                answer.ended = True
            case h2.events.StreamReset():
                answer.reset = int(event.error_code)
            case h2.events.PingAckReceived():
                self.pongs.append(event.ping_data)

    def _note_goaway(self, frame: Any) -> tuple[list[Any], list[Any]]:
        self.goaways.append((frame.error_code, frame.last_stream_id))
        return [], []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all that it survives, which is the point of it."""
    directory = tmp_path_factory.mktemp("http2")
    settings = {"INTERFACE": "omi", "OMI_MODEL": f"{MODELS}:Echo"}
    with Server(directory, OMI_MAX_REQUEST_BYTES=str(LIMIT), **settings) as server:
        with Peer(server.port("omi")) as peer:
            until(lambda: peer.call(to_echo(b"are you?")).echo == b"are you?", "it answers")
        yield server


@pytest.fixture
def port(server: Server) -> int:
    return server.port("omi")


@pytest.fixture
def peer(port: int) -> Iterator[Peer]:
    with Peer(port) as peer:
        yield peer


# What is well


def test_an_answer_comes_whole_through_a_tiny_window(port: int) -> None:
    payload = bytes(range(256)) * 40
    with Peer(port, _4=100) as peer:
        first, second = peer.open(), peer.open()
        peer.data(first, to_echo(payload))
        peer.data(second, to_echo(payload[::-1]))
        assert peer.answer(first).echo == payload
        assert peer.answer(second).echo == payload[::-1]


def test_the_window_may_change_while_an_answer_is_on_its_way(port: int) -> None:
    payload = bytes(range(256)) * 1000
    with Peer(port, _4=70_000) as peer:
        peer.takes = False
        stream_id = peer.open()
        peer.data(stream_id, to_echo(payload))
        answer = peer.answers[stream_id]
        peer.wait(lambda: len(answer.body) == 65_535)  # all that the connection's window allows
        # The package `h2` knows larger frames only from the read after the acknowledgement.
        peer.h2.update_settings({4: 66_000, 5: 50_000})
        peer.h2.increment_flow_control_window(1_000_000)
        peer.flush()
        peer.wait(lambda: len(answer.body) >= 66_000)
        peer.h2.ping(b"any more")
        peer.flush()
        peer.wait(lambda: peer.pongs)
        assert len(answer.body) == 66_000
        peer.h2.update_settings({4: 1_000_000})
        peer.flush()
        assert peer.answer(stream_id).echo == payload


def test_padding_continuation_and_trailers_of_a_request(peer: Peer) -> None:
    long = "v" * 40_000
    stream_id = peer.open(RUN, ("x-long", long))
    peer.data(stream_id, to_echo(b"padded" * 1000), ends=False, pad=200)
    peer.h2.send_headers(stream_id, [("x-checksum", "1")], end_stream=True)
    peer.flush()
    assert peer.answer(stream_id).echo == b"padded" * 1000


def test_a_ping_is_answered(peer: Peer) -> None:
    peer.h2.ping(b"12345678")
    peer.flush()
    peer.wait(lambda: peer.pongs == [b"12345678"])


def test_a_request_id_comes_back_however_often_the_fields_are_the_same(peer: Peer) -> None:
    for request_id in ("a", "a", "b", "a", "c" * 120):
        answer = peer.call(to_echo(b"x"), x_request_id=request_id)
        assert (answer.trailers["x-request-id"], answer.status) == (request_id, 0)


# What is refused in words


def test_http_1_is_told_what_the_port_speaks(port: int) -> None:
    with closing(socket.create_connection(("127.0.0.1", port))) as client:
        client.settimeout(PATIENCE)
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        client.sendall(bytes(100_000))
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    head, body = answer.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert body == b"This port speaks gRPC, which needs HTTP/2 from the first byte.\n"


def test_what_is_no_grpc(peer: Peer) -> None:
    answer = peer.answer(peer.open(content_type="application/json", ends=True))
    assert answer.headers[":status"] == "415"
    answer = peer.answer(peer.open(_method="GET", ends=True))
    assert answer.headers[":status"] == "415"


@pytest.mark.parametrize(
    ("own", "data", "status", "text"),
    [
        ({"path": "/no/such"}, to_echo(b"x"), 12, "there is no method /no/such here"),
        ({"grpc_timeout": "soon"}, to_echo(b"x"), 3, "grpc-timeout 'soon' is no time"),
        ({"grpc_timeout": "123456789S"}, to_echo(b"x"), 3, "is no time"),
        ({"grpc_encoding": "zstd"}, to_echo(b"x"), 12, "grpc-encoding 'zstd' is not read here"),
        ({}, framed(b"x", flag=1), 3, "no grpc-encoding says how"),
        ({"grpc_encoding": "gzip"}, framed(b"no gzip", flag=1), 3, "is not gzip"),
        ({}, framed(b"") * 2, 12, "the method takes one message"),
        ({}, b"", 12, "the method takes one message, and none came"),
        ({}, to_echo(b"cut off")[:-1], 3, "the request ends within a message"),
        ({}, b"\x00\x00", 3, "the request ends within a message"),
        ({"path": STREAM}, b"\x00\x00\x00\x00", 3, "the request ends within a message"),
    ],
)
def test_a_call_is_refused(
    peer: Peer, own: dict[str, str], data: bytes, status: int, text: str
) -> None:
    answer = peer.call(data, own.pop("path", RUN), **own)
    assert answer.status == status, answer
    assert text in answer.message
    assert ("grpc-accept-encoding" in (answer.trailers or answer.headers)) == (
        status == 12 and "/no/" not in text
    )
    assert peer.call(to_echo(b"well")).echo == b"well"


def test_a_message_far_too_large_is_refused_after_its_prefix(peer: Peer) -> None:
    stream_id = peer.open()
    peer.data(stream_id, struct.pack(">BI", 0, 2**30), ends=False)
    answer = peer.answer(stream_id)
    assert answer.status == 8
    assert "OMI_MAX_REQUEST_BYTES" in answer.message


@pytest.mark.parametrize(
    "own", [{}, {"path": STREAM}, {"grpc_timeout": "soon"}, {"grpc_encoding": "zstd"}]
)
def test_a_message_that_is_refused_is_let_in_before_its_caller_is_told(
    peer: Peer, own: dict[str, str]
) -> None:
    stream_id = peer.open(own.pop("path", RUN), **own)
    whole = framed(bytes(2 * LIMIT))
    peer.data(stream_id, whole[:-1], ends=False)  # waits for windows, which have to open
    peer.h2.ping(b"any news")
    peer.flush()
    peer.wait(lambda: peer.pongs)
    answer = peer.answers[stream_id]
    assert not answer.headers
    peer.data(stream_id, whole[-1:])
    assert peer.answer(stream_id).status in {3, 8, 12}
    assert peer.call(to_echo(b"well")).echo == b"well"


def test_a_deadline_counts_from_the_head_of_a_request(server: Server, peer: Peer) -> None:
    stream_id = peer.open(grpc_timeout="200m", x_request_id="stalls")
    peer.data(stream_id, to_echo(b"never whole")[:-1], ends=False)
    answer = peer.answer(stream_id)
    assert answer.status == 4
    assert "the request did not arrive within the caller's limit: after 0.2 s" in answer.message
    line = server.wait_for_log(
        r"\[stalls\] omi ModzyModel/Run of \w+: DEADLINE_EXCEEDED in (\S+) ms"
    )
    assert float(line[1]) > 190, "and so does what the log and the metrics say of it"
    assert peer.call(to_echo(b"well"), grpc_timeout="20S").echo == b"well"


def test_a_text_that_is_not_ascii_is_percent_encoded(peer: Peer) -> None:
    request = health_pb2.HealthCheckRequest(service="größe%20" + "é" * 5000)
    answer = peer.call(framed(request.SerializeToString()), CHECK)
    assert answer.status == 5
    assert "no service 'größe%20éé" in answer.message
    assert len(json.dumps(answer.headers)) < 8000


def test_binary_metadata_are_no_harm(peer: Peer) -> None:
    for value in ("AAEC", "AAECAw", "not base64!", "AA==,BB=="):
        assert peer.call(to_echo(b"x"), some_bin=value).echo == b"x"


# What breaks the protocol: in one stream, or the connection

Breach = Callable[[Peer, int], list[Any]]


def _window(stream_id: int, size: int) -> Any:
    return frames.WindowUpdateFrame(stream_id, size)


def _raw(kind: int, flags: int, stream_id: int, payload: bytes) -> Any:
    class Raw:
        def serialize(self) -> bytes:
            return (
                struct.pack(">I", len(payload))[1:]
                + struct.pack(">BBI", kind, flags, stream_id)
                + payload
            )

    return Raw()


def _padded(stream_id: int) -> Any:
    return _raw(0, 8, stream_id, b"\x05abc")


CONNECTION_BREACHES: dict[str, tuple[int, Breach]] = {
    "DATA of no stream": (PROTOCOL_ERROR, lambda _, __: [_raw(0, 0, 0, b"x")]),
    "DATA of a stream not begun": (PROTOCOL_ERROR, lambda _, __: [_raw(0, 0, 99, b"x")]),
    "HEADERS of an even stream": (PROTOCOL_ERROR, lambda _, __: [_raw(1, 4, 100, b"\x82")]),
    "RST_STREAM of a stream not begun": (PROTOCOL_ERROR, lambda _, __: [_raw(3, 0, 99, bytes(4))]),
    "RST_STREAM cut off": (FRAME_SIZE, lambda _, s: [_raw(3, 0, s, bytes(3))]),
    "SETTINGS of a stream": (PROTOCOL_ERROR, lambda _, s: [_raw(4, 0, s, b"")]),
    "SETTINGS cut off": (FRAME_SIZE, lambda _, __: [_raw(4, 0, 0, bytes(5))]),
    "SETTINGS in an acknowledgement": (FRAME_SIZE, lambda _, __: [_raw(4, 1, 0, bytes(6))]),
    "a window too large": (
        FLOW_CONTROL,
        lambda _, __: [_raw(4, 0, 0, struct.pack(">HI", 4, 2**31))],
    ),
    "frames too small": (PROTOCOL_ERROR, lambda _, __: [_raw(4, 0, 0, struct.pack(">HI", 5, 99))]),
    "push": (PROTOCOL_ERROR, lambda _, s: [_raw(5, 4, s, bytes(5))]),
    "PING of a stream": (PROTOCOL_ERROR, lambda _, s: [_raw(6, 0, s, bytes(8))]),
    "PING cut off": (FRAME_SIZE, lambda _, __: [_raw(6, 0, 0, bytes(7))]),
    "GOAWAY of a stream": (PROTOCOL_ERROR, lambda _, s: [_raw(7, 0, s, bytes(8))]),
    "WINDOW_UPDATE of nothing": (PROTOCOL_ERROR, lambda _, __: [_window(0, 0)]),
    "WINDOW_UPDATE too far": (FLOW_CONTROL, lambda _, __: [_window(0, 2**31 - 1)]),
    "WINDOW_UPDATE cut off": (FRAME_SIZE, lambda _, __: [_raw(8, 0, 0, bytes(3))]),
    "CONTINUATION of nothing": (PROTOCOL_ERROR, lambda _, s: [_raw(9, 4, s, b"")]),
    "HEADERS that do not go on": (
        PROTOCOL_ERROR,
        lambda _, __: [_raw(1, 0, 99, b"\x82"), _raw(6, 0, 0, bytes(8))],
    ),
    "DATA within HEADERS": (
        PROTOCOL_ERROR,
        lambda _, s: [_raw(1, 0, 99, b"\x82"), _raw(0, 0, s, b"")],
    ),
    "CONTINUATION without end": (
        CALM,
        lambda _, __: [_raw(1, 0, 99, b"\x82"), *[_raw(9, 0, 99, b"")] * 100],
    ),
    "more padding than payload": (PROTOCOL_ERROR, lambda _, s: [_padded(s)]),
    "a frame too large": (FRAME_SIZE, lambda _, s: [_raw(0, 0, s, bytes(2**20 + 1))]),
    "fields that make no sense": (COMPRESSION, lambda _, __: [_raw(1, 4, 99, b"\xff\xff\xff")]),
    "fields without end": (
        CALM,
        lambda _, __: [_raw(1, 4, 99, b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000 + b"\xbe" * 100)],
    ),
    "more than the window allows": (
        FLOW_CONTROL,
        lambda _, s: [
            _raw(0, 0, s, framed(bytes(2**20 - 100))[:1000]),
            _raw(0, 0, s, bytes(2**20)),
        ],
    ),
    "pings without end": (CALM, lambda _, __: [_raw(6, 0, 0, bytes(8))] * 40_000),
    "settings without end": (CALM, lambda _, __: [_raw(4, 0, 0, b"")] * 40_000),
    "empty DATA without end": (CALM, lambda _, s: [_raw(0, 0, s, b"")] * 40_000),
    "padding without end": (CALM, lambda _, s: [_raw(0, 8, s, b"\x00")] * 40_000),
    "priorities without end": (CALM, lambda _, s: [_raw(2, 0, s, bytes(5))] * 40_000),
}


@pytest.mark.parametrize("breach", CONNECTION_BREACHES)
def test_a_breach_ends_the_connection_and_no_other(port: int, peer: Peer, breach: str) -> None:
    code, make = CONNECTION_BREACHES[breach]
    with Peer(port) as other:
        stream_id = peer.open()
        with suppress(ConnectionError):  # it may be cut off before all is sent
            peer.send(*make(peer, stream_id))
        peer.wait_for_end()
        assert [said for said, _ in peer.goaways] == [code]
        assert other.call(to_echo(b"well")).echo == b"well"


def test_a_client_that_does_not_begin_with_settings(port: int) -> None:
    with closing(socket.create_connection(("127.0.0.1", port))) as client:
        client.settimeout(PATIENCE)
        client.sendall(PREFACE + _raw(6, 0, 0, bytes(8)).serialize())
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert b"a client begins with its SETTINGS" in answer


STREAM_BREACHES: dict[str, tuple[int, Breach]] = {
    "DATA after the end": (STREAM_CLOSED, lambda _, s: [_raw(0, 1, s, b""), _raw(0, 0, s, b"x")]),
    "HEADERS after the end": (
        STREAM_CLOSED,
        lambda _, s: [_raw(0, 1, s, b""), _raw(1, 5, s, b"\x82")],
    ),
    "trailers that are not the last": (PROTOCOL_ERROR, lambda _, s: [_raw(1, 4, s, b"\x82")]),
    "a window of nothing": (PROTOCOL_ERROR, lambda _, s: [_window(s, 0)]),
    "a window too far": (FLOW_CONTROL, lambda _, s: [_window(s, 2**31 - 1)]),
}


@pytest.mark.parametrize("breach", STREAM_BREACHES)
def test_a_breach_ends_the_stream_and_no_other(peer: Peer, breach: str) -> None:
    code, make = STREAM_BREACHES[breach]
    stream_id = peer.open()
    peer.send(*make(peer, stream_id))
    assert peer.answer(stream_id).reset == code
    assert peer.call(to_echo(b"well")).echo == b"well"


@pytest.mark.parametrize(
    "own", [{"_path": ""}, {"connection": "close"}, {"_strange": "x"}, {"X-Upper": "x"}]
)
def test_fields_that_http_2_does_not_have(port: int, own: dict[str, str]) -> None:
    with Peer(port) as peer:
        peer.h2.config.validate_outbound_headers = False
        peer.h2.config.normalize_outbound_headers = False
        stream_id = peer.h2.get_next_available_stream_id()
        fields = {":method": "POST", ":scheme": "http", ":path": RUN, "content-type": "x"}
        if "_path" in own:
            del fields[":path"]
        else:
            fields |= {name.replace("_", ":"): value for name, value in own.items()}
        order = sorted(fields.items(), key=lambda pair: pair[0][0] != ":")
        peer.answers[stream_id] = Answer()
        peer.h2.send_headers(stream_id, order, end_stream=True)
        peer.flush()
        assert peer.answer(stream_id).reset == PROTOCOL_ERROR


def test_requests_given_up_without_end_are_cut_off(port: int) -> None:
    fields = [(":method", "POST"), (":scheme", "http"), (":path", RUN)]
    fields += [("content-type", "application/grpc"), ("grpc-timeout", "99999999H")]
    with Peer(port) as peer, Peer(port) as other:
        first, again = peer.h2.encoder.encode(fields), peer.h2.encoder.encode(fields)
        flood = [
            _raw(1, 4, n, first if n == 1 else again).serialize()
            + _raw(0, 1, n, framed(b"")).serialize()
            + _raw(3, 0, n, struct.pack(">I", 8)).serialize()
            for n in range(1, 80_000, 2)
        ]
        with suppress(ConnectionError):
            peer.raw(b"".join(flood))
        assert other.call(to_echo(b"well")).echo == b"well"
        said = bytearray()
        with suppress(ConnectionError):
            while part := peer.socket.recv(65536):
                said += part
        assert b"too many frames that bring nothing" in said


def _resident(server: Server) -> int:
    statm = Path(f"/proc/{server.serving}/statm").read_text()
    return int(statm.split()[1]) * 4096


def test_a_client_that_asks_and_never_reads_is_cut_off(server: Server, port: int) -> None:
    before = _resident(server)
    with Peer(port) as peer:
        fields = [(":method", "POST"), (":scheme", "http"), (":path", "/" + "no" * 1000)]
        fields += [("content-type", "application/grpc")]
        first, again = peer.h2.encoder.encode(fields), peer.h2.encoder.encode(fields)
        asked = b"".join(
            _raw(1, 5, n, first if n == 1 else again).serialize() for n in range(1, 80_000, 2)
        )
        with suppress(ConnectionError):
            peer.raw(asked)
        server.wait_for_log("it sends, and reads nothing")
    assert _resident(server) - before < 60_000_000
    with Peer(port) as other:
        assert other.call(to_echo(b"well")).echo == b"well"


def test_answers_that_nobody_reads_are_not_made(servers: Any, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    server = servers(INTERFACE="omi", OMI_MODEL=f"{V2_MODELS}:Payload", NOTES=notes)
    request = v2.PredictRequest(inputs=[v2.Input(key="number", text="1000000")])
    with Peer(server.port("omi"), _4=2**31 - 1) as peer:
        server.wait_for_log("is ready")
        peer.h2.increment_flow_control_window(2**31 - 1 - 65_535)
        before = _resident(server)
        stream_id = peer.open(STREAM)
        peer.h2.ping(b"settings")
        peer.flush()
        peer.wait(lambda: peer.pongs)
        peer.data(stream_id, framed(request.SerializeToString()) * 3000, ends=False)
        until(lambda: notes.exists() and _is_quiet(notes), "it makes no more answers")
        assert len(notes.read_text().splitlines()) < 150
        assert _resident(server) - before < 150_000_000
        assert not peer.answers[stream_id].ended


def _is_quiet(file: Path) -> bool:
    size = file.stat().st_size
    time.sleep(0.3)
    return file.stat().st_size == size


def test_a_client_that_vanishes(server: Server, port: int) -> None:
    for _ in range(20):
        peer = Peer(port)
        first, second = peer.open(), peer.open(STREAM)
        peer.data(first, to_echo(bytes(100_000))[:-1], ends=False)
        peer.data(second, b"\x00\x00", ends=False)
        linger = struct.pack("ii", 1, 0)
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # a reset
        peer.socket.close()
    with Peer(port) as other:
        assert other.call(to_echo(b"well")).echo == b"well"
    assert "Traceback" not in server.log


# The end


@contextmanager
def _held(servers: Any, marks: Path, **more: str) -> Iterator[tuple[Server, Peer, int]]:
    settings = {"INTERFACE": "omi", "OMI_MODEL": f"{MODELS}:Totals", "MARKS": marks}
    server = servers(**settings, **more)
    with Peer(server.port("omi")) as peer:
        stream_id = peer.open()
        pair = json.dumps([-8.0, 1.0]).encode()
        request = pb.RunRequest(inputs=[pb.InputItem(input={"pair": pair})])
        peer.data(stream_id, framed(request.SerializeToString()))
        until((marks / "holding").exists, "a prediction runs")
        yield server, peer, stream_id


def test_a_stop_answers_what_is_on_its_way(servers: Any, marks: Path) -> None:
    with _held(servers, marks) as (server, peer, held):
        server.signal(signal.SIGTERM)
        server.wait_for_log("stopping")
        late = peer.open(CHECK)
        peer.data(late, framed(b""))
        peer.wait(lambda: len(peer.goaways) == 2)
        (marks / "release").touch()
        assert peer.answer(held).status == 0
        assert peer.answer(late).status == 0
        peer.wait_for_end()
        assert peer.goaways[:2] == [(0, 2**31 - 1), (0, late)]
        assert server.wait() == 0


def test_a_stop_waits_for_nobody_who_does_not_answer(servers: Any, marks: Path) -> None:
    """Those on whose connections nothing is asked: not much longer than the last call takes."""
    with _held(servers, marks) as (server, peer, held), ExitStack() as others:
        for what in (b"", b"PRI", PREFACE, PREFACE + _raw(4, 0, 0, b"").serialize(), b"GET / "):
            idle = socket.create_connection(("127.0.0.1", server.port("omi")))
            others.enter_context(idle).sendall(what)
        frozen = _frozen_client(server.port("omi"))
        others.callback(frozen.wait)
        others.callback(frozen.kill)
        server.signal(signal.SIGTERM)
        server.wait_for_log("stopping")
        (marks / "release").touch()
        assert peer.answer(held).status == 0
        peer.socket.close()
        began = time.monotonic()
        assert server.wait() == 0
        assert time.monotonic() - began < 2.5 * slowness(), "the grace is 30 s"


def test_who_does_not_answer_is_no_work_that_a_stop_cuts_off(servers: Any, marks: Path) -> None:
    with _held(servers, marks, OMI_GRACE="0.3") as (server, peer, held), ExitStack() as others:
        frozen = _frozen_client(server.port("omi"))
        others.callback(frozen.wait)
        others.callback(frozen.kill)
        (marks / "release").touch()
        assert peer.answer(held).status == 0
        peer.socket.close()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "cut off" not in server.log


def test_a_request_that_is_not_there_in_whole_is_work(servers: Any, marks: Path) -> None:
    with _held(servers, marks, OMI_GRACE="0.3") as (server, peer, held):
        peer.open()
        (marks / "release").touch()
        assert peer.answer(held).status == 0
        server.signal(signal.SIGTERM)
        assert server.wait() == 1
        assert "cut off" in server.log


_FREEZES = """
import os, signal, sys
import grpc
channel = grpc.insecure_channel("127.0.0.1:" + sys.argv[1])
channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=30)
print("well", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


def _frozen_client(port: int) -> subprocess.Popen[bytes]:
    """A process with an open connection, of which nothing more comes."""
    client = subprocess.Popen([sys.executable, "-c", _FREEZES, str(port)], stdout=subprocess.PIPE)
    assert client.stdout
    with client.stdout as said:
        assert said.readline() == b"well\n"
    state = Path(f"/proc/{client.pid}/stat")
    until(lambda: state.read_text().split()[2] == "T", "it stands still")
    return client
