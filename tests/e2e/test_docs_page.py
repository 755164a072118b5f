"""The page `/docs` in a headless Chromium: it describes the model, and sends requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clients import browser
from clients.browser import Browser
from clients.process import EXAMPLES

MODELS = Path(__file__).parents[1] / "adapters" / "models.py"

pytestmark = pytest.mark.skipif(
    bool(browser.missing()), reason=f"not installed: {browser.missing()}"
)


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser.browser(tmp_path_factory.mktemp("browser")) as window:
        yield window


def opened(window: Browser, servers: Any, model: str) -> None:
    """The page of a model, all of it there and nothing missing."""
    server = servers(INTERFACE="kserve", OMI_MODEL=model)
    window.open(f"http://127.0.0.1:{server.port('kserve')}/docs")
    window.until("return 'ready' in (document.querySelector('main')?.dataset ?? {})")
    foreign = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    assert [url.rpartition("/")[2] for url in window.run(foreign)] == ["openapi.json"]
    assert window.complaints() == []


def sent(window: Browser, operation: str, body: Any = None) -> tuple[str, str]:
    """Open an operation, write a body if there is one, send it; the status line and the answer."""
    inside = f'[data-operation="{operation}"]'
    window.click(f"{inside} > summary")
    if body is not None:
        window.write(f"{inside} textarea", body if isinstance(body, str) else json.dumps(body))
    window.click(f"{inside} button")
    status = window.until(
        "return document.querySelector(arguments[0] + ' .status')?.textContent", inside
    )
    text = "return document.querySelector(arguments[0] + ' .answer')?.textContent ?? ''"
    return status, window.until(text, inside)


def test_the_model_is_described_and_asked(window: Browser, servers: Any) -> None:
    opened(window, servers, str(EXAMPLES / "iris"))
    assert window.run("return document.title") == "iris: API"
    assert window.run("return document.querySelector('h1').textContent") == "iris 1.0.0"
    shown = window.run(
        "return [...document.querySelectorAll('[data-operation]')].map("
        "(operation) => operation.dataset.operation)"
    )
    assert {"post /v1/models/iris:predict", "post /v1/models/iris:explain"} <= set(shown)
    assert not any("generate" in operation for operation in shown)

    status, answer = sent(window, "post /v1/models/iris:predict")  # the example, as it stands
    assert status.startswith("200 OK · application/json · ")
    assert json.loads(answer) == {"predictions": [0]}

    tensor = {"name": "measurements", "datatype": "FP32", "shape": [1, 4]}
    tensor["data"] = [6.3, 3.3, 6.0, 2.5]
    status, answer = sent(window, "post /v2/models/iris/infer", {"id": "7", "inputs": [tensor]})
    assert status.startswith("200 OK")
    answered = json.loads(answer)
    assert (answered["id"], answered["outputs"][0]["data"]) == ("7", [2])

    described = "return document.querySelector(arguments[0]).textContent"
    text = window.run(described, '[data-operation="post /v1/models/iris:predict"]')
    assert '"maxItems": 4' in text

    assert window.complaints() == []


def test_an_error_is_shown(window: Browser, servers: Any) -> None:
    opened(window, servers, str(EXAMPLES / "iris"))
    status, answer = sent(window, "post /v1/models/iris:predict", {"instances": [[1, 2]]})
    assert status.startswith("400 Bad Request")
    assert "has shape [2], expected [4]" in answer
    (complaint,) = window.complaints()
    assert "status of 400" in complaint


def test_a_stream_is_shown_as_it_comes(window: Browser, servers: Any, tmp_path: Path) -> None:
    opened(window, servers, f"{MODELS}:Tokens")
    gate = tmp_path / "gate"
    operation = "post /v2/models/tokens/generate_stream"
    status, answer = sent(window, operation, {"text_input": f"first wait={gate} last"})
    assert status.startswith("200 OK · text/event-stream")
    assert '"text_output":"first "' in answer
    assert "last" not in answer
    gate.with_name("gate.open").touch()
    ended = "return document.querySelector(arguments[0]).textContent.includes('\"last \"')"
    assert window.until(ended, f'[data-operation="{operation}"] .answer')


def test_a_get_has_a_button_too(window: Browser, servers: Any) -> None:
    opened(window, servers, str(EXAMPLES / "iris"))
    status, answer = sent(window, "get /v2/models/iris")
    assert status.startswith("200 OK")
    assert json.loads(answer)["inputs"][0]["name"] == "measurements"


def test_numbers_are_sent_as_typed_and_shown_as_sent(window: Browser, servers: Any) -> None:
    """JavaScript's own numbers have no odd ones above 2^53."""
    opened(window, servers, f"{MODELS.with_name('models_v2.py')}:Doubled")
    operation = "post /v1/models/doubled:predict"
    status, answer = sent(window, operation, {"instances": [2**62 - 1]})
    assert status.startswith("200 OK"), answer
    assert json.loads(answer) == {"predictions": [[2**63 - 2, 1]]}
    described = "return document.querySelector(arguments[0]).textContent"
    text = window.run(described, f'[data-operation="{operation}"]')
    assert f'"minimum": {-(2**63)},' in text
    assert f'"maximum": {2**63 - 1}\n' in text
