"""The fixtures of the wire tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from golden_servers import MODELS, Gate, Serve, Server


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts servers when they are first asked for; all are ended after the module.

    `serve("Words", "kserve", OMI_QUEUE_SIZE="1")`: a class of models.py, or a path of a model.
    """
    servers: dict[tuple, Server] = {}

    def get(model: str, interface: str, **settings: str) -> Server:
        key = (model, interface, *sorted(settings.items()))
        if key not in servers:
            source = model if "/" in model else f"{MODELS}:{model}"
            directory = tmp_path_factory.mktemp(Path(model).name)
            servers[key] = Server(source, interface, directory, **settings)
        return servers[key]

    yield get
    for server in servers.values():
        server.signal()  # all at once, for each takes its time to end
    failures = []
    for server in servers.values():
        try:
            server.ended()
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)
