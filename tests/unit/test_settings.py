"""Every setting of the core: its default, what it takes and what it refuses."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from omi_runtime import environment
from omi_runtime.errors import SettingsError
from omi_runtime.jsontext import NanPolicy
from omi_runtime.settings import Settings

DEFAULTS: dict[str, tuple[str, Any]] = {
    "INTERFACE": ("interface", ("omi",)),
    "PROTOCOL": ("protocol", ""),
    "MODEL_NAME": ("model_name", ""),
    "HTTP_PORT": ("http_port", None),
    "PSC_MODEL_PORT": ("psc_model_port", None),
    "OMI_MODEL": ("model", ""),
    "OMI_HOST": ("host", "0.0.0.0"),
    "OMI_THREADS": ("threads", None),
    "OMI_MAX_BATCH_SIZE": ("max_batch_size", None),
    "OMI_BATCH_DELAY_MS": ("batch_delay_ms", 0),
    "OMI_QUEUE_SIZE": ("queue_size", 1024),
    "OMI_LOAD_GRACE": ("load_grace", 30),
    "OMI_DRAIN_DELAY": ("drain_delay", 0),
    "OMI_GRACE": ("grace", 30),
    "OMI_MAX_REQUEST_BYTES": ("max_request_bytes", 250 * 1024 * 1024),
    "OMI_MAX_RESPONSE_BYTES": ("max_response_bytes", 250 * 1024 * 1024),
    "OMI_NAN": ("nan", NanPolicy.ERROR),
    "OMI_ERROR_DETAIL": ("error_detail", "full"),
    "OMI_ALLOW_SHUTDOWN": ("allow_shutdown", True),
    "OMI_TLS_CERT": ("tls_cert", ""),
    "OMI_TLS_KEY": ("tls_key", ""),
    "OMI_TLS_CLIENT_CA": ("tls_client_ca", ""),
    "OMI_LOG_LEVEL": ("log_level", "info"),
    "OMI_LOG_FORMAT": ("log_format", "text"),
    "OMI_ACCESS_LOG": ("access_log", False),
}
"""ARCHITECTURE, section 6, as far as it is built."""


def read(**environ: str) -> Settings:
    return environment.read(Settings, environ)


@pytest.mark.parametrize("variable", DEFAULTS)
def test_the_defaults_are_the_architectures(variable: str) -> None:
    field, default = DEFAULTS[variable]
    assert getattr(read(), field) == default
    assert environment.declared(Settings)[field].variable == variable


def test_every_setting_is_described() -> None:
    for name, setting in environment.declared(Settings).items():
        if setting.variable in DEFAULTS:
            assert DEFAULTS[setting.variable][0] == name
        assert setting.description.endswith(".")
        assert setting.valid
        assert setting.default_text


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("INTERFACE", "kserve", ("kserve",)),
        ("INTERFACE", "OMI, kserve ,modzy", ("omi", "kserve", "modzy")),
        ("PROTOCOL", "V2", "v2"),
        ("MODEL_NAME", "Iris 2", "Iris 2"),
        ("HTTP_PORT", "0", 0),
        ("PSC_MODEL_PORT", "65535", 65535),
        ("OMI_MODEL", "a:B", "a:B"),
        ("OMI_HOST", "::", "::"),
        ("OMI_THREADS", "4", 4),
        ("OMI_MAX_BATCH_SIZE", "16", 16),
        ("OMI_BATCH_DELAY_MS", "2.5", 2.5),
        ("OMI_QUEUE_SIZE", "1", 1),
        ("OMI_LOAD_GRACE", "0", 0),
        ("OMI_DRAIN_DELAY", "0.5", 0.5),
        ("OMI_GRACE", "1.5", 1.5),
        ("OMI_MAX_REQUEST_BYTES", "1", 1),
        ("OMI_MAX_RESPONSE_BYTES", "4294967296", 2**32),
        ("OMI_NAN", "string", NanPolicy.STRING),
        ("OMI_ERROR_DETAIL", "Generic", "generic"),
        ("OMI_ALLOW_SHUTDOWN", "off", False),
        ("OMI_LOG_LEVEL", "DEBUG", "debug"),
        ("OMI_LOG_FORMAT", "json", "json"),
        ("OMI_ACCESS_LOG", "1", True),
    ],
)
def test_a_good_value_is_taken(variable: str, text: str, value: Any) -> None:
    assert getattr(read(**{variable: text}), DEFAULTS[variable][0]) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("INTERFACE", "omi,"),
        ("INTERFACE", "omi,omi"),
        ("INTERFACE", ","),
        ("PROTOCOL", "v3"),
        ("HTTP_PORT", "tcp://10.0.0.1:80"),
        ("HTTP_PORT", "65536"),
        ("PSC_MODEL_PORT", "eighty"),
        ("OMI_THREADS", "0"),
        ("OMI_MAX_BATCH_SIZE", "-1"),
        ("OMI_BATCH_DELAY_MS", "60001"),
        ("OMI_BATCH_DELAY_MS", "nan"),
        ("OMI_QUEUE_SIZE", "0"),
        ("OMI_LOAD_GRACE", "-1"),
        ("OMI_DRAIN_DELAY", "inf"),
        ("OMI_GRACE", "30s"),
        ("OMI_MAX_REQUEST_BYTES", "0"),
        ("OMI_MAX_RESPONSE_BYTES", "250MiB"),
        ("OMI_NAN", "skip"),
        ("OMI_ERROR_DETAIL", "none"),
        ("OMI_ALLOW_SHUTDOWN", "maybe"),
        ("OMI_LOG_LEVEL", "loud"),
        ("OMI_LOG_FORMAT", "xml"),
        ("OMI_ACCESS_LOG", "all"),
    ],
)
def test_a_bad_value_is_refused_in_one_line(variable: str, text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(**{variable: text})
    assert str(refused.value).startswith(f"{variable}={text!r} is not valid: expected ")
    assert "\n" not in str(refused.value)


def test_settings_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().grace = 1  # type: ignore[misc]


def test_the_model_is_where_it_is_said_or_here() -> None:
    assert Settings(model="x").model_source() == "x"
    assert Settings().model_source() == ("/model" if Path("/model").is_dir() else ".")
