"""Groups of environment variables: read once, and told in one line what is wrong."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omi_runtime import environment
from omi_runtime.environment import setting
from omi_runtime.errors import SettingsError

KNOWN = ["INTERFACE", "OMI_MODEL", "OMI_GRACE", "OMI_GRPC_PORT"]


@dataclass(frozen=True)
class Group:
    """As an adapter declares its own."""

    count: int = setting(
        "OMI_COUNT", 3, environment.parse_number(int, 1), environment.COUNT, "How many."
    )
    port: int | None = setting(
        "OMI_PORT_NUMBER",
        None,
        environment.parse_port,
        environment.PORT,
        "Where.",
        default_text="8080",
    )


def test_a_group_is_read_from_its_variables() -> None:
    assert environment.read(Group, {}) == Group(3, None)
    assert environment.read(Group, {"OMI_COUNT": "7", "OTHER": "x"}) == Group(7, None)


def test_an_empty_value_counts_as_unset() -> None:
    assert environment.read(Group, {"OMI_COUNT": "", "OMI_PORT_NUMBER": ""}) == Group(3, None)


def test_what_is_declared_can_be_listed() -> None:
    declared = environment.declared(Group)
    assert list(declared) == ["count", "port"]
    assert declared["count"].variable == "OMI_COUNT"
    assert declared["count"].default_text == "3"
    assert declared["port"].default_text == "8080"
    assert declared["port"].description == "Where."


@pytest.mark.parametrize("text", ["x", "0", "-1", "1.5", "1e3", "inf", "∞"])
def test_a_bad_value_is_told_with_its_variable_and_what_is_valid(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        environment.read(Group, {"OMI_COUNT": text})
    assert str(refused.value) == (
        f"OMI_COUNT={text!r} is not valid: expected a whole number, 1 or more"
    )
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2


def test_what_kubernetes_injects_is_told_as_that() -> None:
    with pytest.raises(SettingsError) as refused:
        environment.read(Group, {"OMI_PORT_NUMBER": "tcp://10.0.0.1:8080"})
    assert str(refused.value) == (
        "OMI_PORT_NUMBER='tcp://10.0.0.1:8080' is not valid: expected a port number from 0 to "
        "65535 (Kubernetes injects such a value for a service of that name: rename the service, "
        "or set enableServiceLinks: false)"
    )


# --- parsers ---


@given(number=st.integers())
def test_a_port_is_a_number_from_0_to_65535(number: int) -> None:
    if 0 <= number <= 65535:
        assert environment.parse_port(str(number)) == number
    else:
        with pytest.raises(ValueError, match=str(number)):
            environment.parse_port(str(number))


@pytest.mark.parametrize("number", [0, 1, 65535])
def test_the_ends_of_the_ports(number: int) -> None:
    assert environment.parse_port(str(number)) == number


@pytest.mark.parametrize("text", ["65536", "-1", "", "http", "80.0", "tcp://10.0.0.1:80"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        environment.parse_port(text)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "-0.1", "soon", "5 s"])
def test_seconds_are_a_finite_number(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        environment.parse_number(float, 0)(text)


@given(number=st.floats(0, 1e9))
def test_seconds_may_have_fractions(number: float) -> None:
    assert math.isclose(environment.parse_number(float, 0)(str(number)), number)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, True) for word in ("1", "true", "YES", "On")),
        *((word, False) for word in ("0", "False", "no", "OFF")),
    ],
)
def test_a_switch(text: str, value: bool) -> None:
    assert environment.parse_switch(text) is value


@pytest.mark.parametrize("text", ["2", "enabled", "", "tru"])
def test_what_is_no_switch(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        environment.parse_switch(text)


def test_a_choice_is_one_of_its_words_in_either_case() -> None:
    parse = environment.parse_choice("full", "generic")
    assert parse("FULL") == parse("full") == "full"
    with pytest.raises(ValueError, match="none"):
        parse("none")


# --- misspelt names ---


def check(environ: dict[str, str], others: list[str] | None = None) -> None:
    environment.check_names(KNOWN, environ, lambda: others or [])


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("OMI_MODLE", "OMI_MODEL"),
        ("OMI_MODELS", "OMI_MODEL"),
        ("OMI_GRACE_", "OMI_GRACE"),
        ("OMI_GRPCPORT", "OMI_GRPC_PORT"),
        ("OMI_", "OMI_MODEL"),
    ],
)
def test_a_misspelt_variable_is_told_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(SettingsError) as refused:
        check({name: "x"})
    if name != "OMI_":
        assert str(refused.value) == (
            f"{name}='x' is no setting: did you mean {nearest}? "
            "`omi serve --print-config` lists all"
        )
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OMI_IRIS_SERVICE_HOST", "10.0.0.1"),
        ("OMI_IRIS_SERVICE_PORT", "8080"),
        ("OMI_IRIS_SERVICE_PORT_HTTP", "8080"),
        ("OMI_IRIS_SERVICE_PORT_HTTP_METRICS", "8080"),
        ("OMI_IRIS_PORT", "tcp://10.0.0.1:8080"),
        ("OMI_IRIS_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("OMI_IRIS_PORT_8080_TCP_PROTO", "tcp"),
        ("OMI_IRIS_PORT_8080_TCP_PORT", "8080"),
        ("OMI_IRIS_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("OMI_IRIS_PORT_53_UDP", "udp://10.0.0.1:53"),
        ("OMI_ANYTHING", "tcp://10.0.0.1:8080"),
    ],
)
def test_what_kubernetes_injects_for_a_service_is_let_through(name: str, value: str) -> None:
    check({name: value})


@pytest.mark.parametrize("name", ["PATH", "OMICRON", "MODEL_NAMES", "HTTP_PROT", "omi_model"])
def test_other_peoples_variables_are_none_of_ours(name: str) -> None:
    check({name: "x"})


def test_what_another_installed_adapter_reads_is_no_mistake() -> None:
    check({"OMI_DATA_ROOTS": "/data"}, ["OMI_DATA_ROOTS"])
    with pytest.raises(SettingsError, match="did you mean OMI_DATA_ROOTS"):
        check({"OMI_DATA_ROOT": "/data"}, ["OMI_DATA_ROOTS"])


def test_the_other_adapters_are_only_asked_when_there_is_a_doubt() -> None:
    def others() -> Any:
        raise AssertionError("asked for nothing")

    environment.check_names(KNOWN, {"OMI_MODEL": "x", "PATH": ""}, others)
