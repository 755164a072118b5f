"""Which adapters INTERFACE and PROTOCOL select, on which ports."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from omi_runtime import environment
from omi_runtime.adapter import GROUP, choose_adapters, load_adapter, settings_groups
from omi_runtime.errors import SettingsError
from omi_runtime.settings import Settings


def choose(**environ: str) -> tuple[list[Any], list[str]]:
    return choose_adapters(environment.read(Settings, environ), environ)


def ports(**environ: str) -> list[tuple[str, int]]:
    choices, _ = choose(**environ)
    return [(choice.interface, choice.port.number) for choice in choices]


@pytest.mark.parametrize(
    ("interface", "protocol", "module", "name"),
    [
        ("omi", "", "omi_grpc.adapter", "OMIAdapter"),
        ("omi", "v2", "omi_grpc.adapter", "OMIAdapter"),
        ("modzy", "v2", "omi_grpc.adapter", "OMIAdapter"),
        ("modzy", "", "omi_modzy.adapter", "ModzyAdapter"),
        ("modzy", "v1", "omi_modzy.adapter", "ModzyAdapter"),
        ("kserve", "", "omi_kserve.adapter", "KServeAdapter"),
        ("kserve", "v1", "omi_kserve.adapter", "KServeAdapter"),
        ("kserve", "v2", "omi_kserve.adapter", "KServeAdapter"),
        ("kfserving", "", "omi_kserve.adapter", "KServeAdapter"),
        ("kfserving", "v2", "omi_kserve.adapter", "KServeAdapter"),
    ],
)
def test_interface_and_protocol_select_an_adapter(
    interface: str, protocol: str, module: str, name: str
) -> None:
    adapter = load_adapter(interface, protocol)
    assert (adapter.__module__, adapter.__name__) == (module, name)


def test_the_entry_points_are_those_that_the_architecture_names() -> None:
    assert {point.name for point in entry_points(group=GROUP)} >= {
        "omi", "kserve", "kfserving", "modzy", "modzy.v2",
    }  # fmt: skip


def test_an_unknown_interface_is_told_with_those_that_are_installed() -> None:
    for name in ("foo", "modzy.v2", "OMI"):
        with pytest.raises(SettingsError) as refused:
            load_adapter(name)
        assert str(refused.value).startswith(f"INTERFACE={name!r} is not valid: expected one of ")
        assert "kfserving, kserve, modzy, omi" in str(refused.value)


@pytest.mark.parametrize(
    ("interface", "protocol", "expected"), [("omi", "v1", "v2"), ("modzy", "v3", "v1 or v2")]
)
def test_a_protocol_that_an_interface_has_not_is_told_with_those_it_has(
    interface: str, protocol: str, expected: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        load_adapter(interface, protocol)
    assert str(refused.value) == (
        f"PROTOCOL={protocol!r} is not valid for INTERFACE={interface}: expected {expected}, "
        "or unset"
    )


@pytest.mark.parametrize(
    ("environ", "chosen"),
    [
        ({}, [("omi", 45000)]),
        ({"INTERFACE": "kserve"}, [("kserve", 8080)]),
        ({"INTERFACE": "kfserving"}, [("kfserving", 8080)]),
        ({"INTERFACE": "modzy"}, [("modzy", 8080)]),
        ({"INTERFACE": "modzy", "PROTOCOL": "v2"}, [("modzy", 45000)]),
        ({"HTTP_PORT": "9000"}, [("omi", 9000)]),
        ({"PSC_MODEL_PORT": "9001"}, [("omi", 9001)]),
        ({"PSC_MODEL_PORT": "9001", "HTTP_PORT": "9000"}, [("omi", 9001)]),
        (
            {"INTERFACE": "modzy", "PSC_MODEL_PORT": "9001", "HTTP_PORT": "9000"},
            [("modzy", 9001)],
        ),
        (
            {"INTERFACE": "kserve", "PSC_MODEL_PORT": "9001", "HTTP_PORT": "9000"},
            [("kserve", 9000)],
        ),
        ({"INTERFACE": "kserve", "PSC_MODEL_PORT": "9001"}, [("kserve", 8080)]),
        ({"INTERFACE": "kserve,omi"}, [("kserve", 8080), ("omi", 45000)]),
        ({"INTERFACE": "kserve,omi", "HTTP_PORT": "9000"}, [("kserve", 9000), ("omi", 45000)]),
        ({"INTERFACE": "omi,kserve", "HTTP_PORT": "9000"}, [("omi", 9000), ("kserve", 8080)]),
        (
            {"INTERFACE": "kserve,omi", "HTTP_PORT": "9000", "PSC_MODEL_PORT": "9001"},
            [("kserve", 9000), ("omi", 9001)],
        ),
        ({"INTERFACE": "kserve,modzy", "HTTP_PORT": "0"}, [("kserve", 0), ("modzy", 8080)]),
        (
            {"INTERFACE": "omi,modzy", "HTTP_PORT": "0", "PSC_MODEL_PORT": "0"},
            [("omi", 0), ("modzy", 0)],
        ),
    ],
)
def test_the_ports(environ: dict[str, str], chosen: list[tuple[str, int]]) -> None:
    assert ports(**environ) == chosen


def test_a_port_says_what_set_it() -> None:
    (choice,), _ = choose(HTTP_PORT="9000")
    assert str(choice.port) == "port 9000 (HTTP_PORT)"
    (choice,), _ = choose()
    assert str(choice.port) == "port 45000 (the default; set HTTP_PORT to change it)"


@pytest.mark.parametrize("interface", ["omi", "modzy"])
def test_two_variables_that_differ_are_warned_of(interface: str) -> None:
    _, warnings = choose(INTERFACE=interface, PSC_MODEL_PORT="9001", HTTP_PORT="9000")
    assert warnings == [
        (
            f"PSC_MODEL_PORT=9001 and HTTP_PORT=9000 are both set: {interface} listens on "
            "PSC_MODEL_PORT"
        )
    ]


@pytest.mark.parametrize(
    "environ",
    [
        {"PSC_MODEL_PORT": "9000", "HTTP_PORT": "9000"},
        {"PSC_MODEL_PORT": "9000"},
        {"HTTP_PORT": "9000"},
        {"INTERFACE": "kserve", "PSC_MODEL_PORT": "9001", "HTTP_PORT": "9000"},
        {"INTERFACE": "kserve,omi", "PSC_MODEL_PORT": "9001", "HTTP_PORT": "9000"},
    ],
)
def test_where_there_is_no_doubt_there_is_no_warning(environ: dict[str, str]) -> None:
    assert choose(**environ)[1] == []


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"INTERFACE": "kserve,modzy"},
            (
                "INTERFACE='kserve,modzy': kserve and modzy are both on port 8080 (the default; "
                "set HTTP_PORT to change it; the default; set HTTP_PORT to change it)"
            ),
        ),
        (
            {"INTERFACE": "kserve,omi", "HTTP_PORT": "45000"},
            (
                "INTERFACE='kserve,omi': kserve and omi are both on port 45000 (HTTP_PORT; the "
                "default; set HTTP_PORT to change it)"
            ),
        ),
        (
            {"INTERFACE": "omi,modzy", "PSC_MODEL_PORT": "9000"},
            (
                "INTERFACE='omi,modzy': omi and modzy are both on port 9000 (PSC_MODEL_PORT; "
                "PSC_MODEL_PORT)"
            ),
        ),
        (
            {"INTERFACE": "kserve", "HTTP_PORT": "8081"},
            (
                "INTERFACE='kserve': kserve and kserve's grpc are both on port 8081 (HTTP_PORT; "
                "the default; set OMI_GRPC_PORT to change it)"
            ),
        ),
        (
            {"INTERFACE": "kserve,omi", "OMI_GRPC_PORT": "45000"},
            (
                "INTERFACE='kserve,omi': kserve's grpc and omi are both on port 45000 "
                "(OMI_GRPC_PORT; the default; set HTTP_PORT to change it)"
            ),
        ),
    ],
)
def test_two_interfaces_on_one_port_are_refused(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        choose(**environ)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, {"grpc": 8081}),
        ({"HTTP_PORT": "0"}, {"grpc": 0}),
        ({"HTTP_PORT": "0", "OMI_GRPC_PORT": "9001"}, {"grpc": 9001}),
        ({"OMI_GRPC_PORT": "0"}, {}),
    ],
)
def test_kserve_has_a_second_port(environ: dict[str, str], expected: dict[str, int]) -> None:
    (choice,), _ = choose(INTERFACE="kserve", **environ)
    assert {kind: port.number for kind, port in choice.further_ports.items()} == expected


def test_a_misspelt_variable_is_refused_whatever_is_selected() -> None:
    with pytest.raises(SettingsError, match="OMI_QUEUESIZE='9' is no setting: did you mean OMI_QU"):
        choose(OMI_QUEUESIZE="9")
    choose(OMI_IRIS_SERVICE_HOST="10.0.0.1")


def test_the_settings_of_selected_adapters_are_listed_once() -> None:
    choices, _ = choose(INTERFACE="omi,kserve")
    groups = settings_groups([*choices, *choices])
    assert len(groups) == len(set(groups))


# --- an adapter of somebody else's ---

ADAPTER = """
from dataclasses import dataclass
from omi_runtime.environment import parse_port, setting

@dataclass(frozen=True)
class Own:
    port: int = setting("OMI_STRANGE_PORT", 7, parse_port, "a port", "Its own.")

class Adapter:
    settings_group = Own
    protocols = frozenset()
    default_port = 7777
    port_variables = ("HTTP_PORT",)
    opens_before_load = True
    serves_metrics = False

    @classmethod
    def further_ports(cls, port, environ):
        return {}
"""
ASK = """
import os
from omi_runtime import environment
from omi_runtime.adapter import choose_adapters
from omi_runtime.errors import SettingsError
from omi_runtime.settings import Settings
try:
    choices, _ = choose_adapters(environment.read(Settings), os.environ)
except SettingsError as error:
    print(error)
else:
    print(*[f"{c.interface} {c.adapter.__module__} {c.port.number}" for c in choices])
"""


@pytest.mark.parametrize(
    ("environ", "answer"),
    [
        ({"INTERFACE": "strange"}, "strange strange_adapter 7777"),
        ({"INTERFACE": "strange", "OMI_STRANGE_PORT": "9"}, "strange strange_adapter 7777"),
        ({"INTERFACE": "omi", "OMI_STRANGE_PORT": "9"}, "omi omi_grpc.adapter 45000"),
        (
            {"INTERFACE": "omi", "OMI_STRANGE_PORTS": "9"},
            (
                "OMI_STRANGE_PORTS='9' is no setting: did you mean OMI_STRANGE_PORT? "
                "`omi serve --print-config` lists all"
            ),
        ),
        (
            {"INTERFACE": "strnge"},
            (
                "INTERFACE='strnge' is not valid: expected one of kfserving, kserve, modzy, omi, "
                "strange"
            ),
        ),
        (
            {"INTERFACE": "strange", "PROTOCOL": "v1"},
            "PROTOCOL='v1' is not valid for INTERFACE=strange: expected unset",
        ),
    ],
)
def test_an_installed_distribution_brings_its_interface_and_its_settings(
    tmp_path: Path, environ: dict[str, str], answer: str
) -> None:
    (tmp_path / "strange_adapter.py").write_text(ADAPTER)
    info = tmp_path / "strange-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nstrange = strange_adapter:Adapter\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OMI_")}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env=clean | {"PYTHONPATH": str(tmp_path)} | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == answer, done.stderr
