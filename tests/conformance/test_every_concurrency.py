"""Many callers at once, over every wire: each gets its own answer, whatever is merged or waits."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from clients import (
    MODELS,
    Answer,
    Client,
    KServeGRPCClient,
    KServeV1Client,
    KServeV2Client,
    Outcome,
    Spec,
    only,
    per_interface,
    process,
    until,
)

OURS = MODELS.with_name("concurrency_models.py")

Start = Callable[..., list[Client]]


@pytest.fixture
def crowd(wire: type[Client], servers: Any, tmp_path: Path) -> Iterator[Start]:
    """Starts a server and gives clients of it, each with connections of its own."""
    with ExitStack() as stack:

        def start(model: str, n: int, file: Path = OURS, **variables: Any) -> list[Client]:
            spec = Spec(f"{file}:{model}", model.lower(), {"pair": "FP32"}, {"total": "FP32"})
            port = stack.enter_context(process.reserved_port())
            settings = {"OMI_MODEL": spec.source, "MODEL_NAME": spec.name, wire.port_variable: port}
            servers(INTERFACE=wire.interface, **settings | variables)
            clients = [stack.enter_context(wire(port, spec, tmp_path)) for _ in range(n)]
            until(clients[0].ready, "it is ready")
            return clients

        yield start


def at_once(clients: list[Client], work: Callable[[Client], Any]) -> list[Any]:
    """What each client's work comes to, all at the same time."""
    outcomes: list[Any] = [None] * len(clients)
    line = threading.Barrier(len(clients))

    def run(i: int) -> None:
        line.wait(30)
        outcomes[i] = work(clients[i])

    threads = [threading.Thread(target=run, args=[i], daemon=True) for i in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes


def value(outcomes: list[Outcome]) -> float:
    (outcome,) = outcomes
    assert isinstance(outcome, Answer), outcome
    return float(outcome.outputs["total"])


@per_interface
def test_a_model_that_is_not_thread_safe_counts_right_under_32_clients(crowd: Start) -> None:
    clients = crowd("Counts", 32, OMI_THREADS=8)

    def work(client: Client) -> list[float]:
        return [value(client.infer([{"pair": [0, 0]}])) for _ in range(5)]

    counts = [count for told in at_once(clients, work) for count in told]
    assert sorted(counts) == list(range(1, 161))


@per_interface
@pytest.mark.parametrize("model", ["Together", "TogetherAsync"])
def test_a_model_that_may_is_called_by_as_many_threads_as_allowed_and_no_more(
    crowd: Start, model: str
) -> None:
    clients = crowd(model, 9, OMI_THREADS=3)
    most = at_once(clients, lambda client: value(client.infer([{"pair": [3, 0]}])))
    assert set(most) == {3.0}


@per_interface
def test_a_model_is_called_on_the_thread_that_loaded_it(crowd: Start) -> None:
    clients = crowd("SameThread", 4)
    assert at_once(clients, lambda client: value(client.infer([{"pair": [0, 0]}]))) == [1.0] * 4


@pytest.mark.parametrize("seed", [1, 2])
def test_any_mix_of_requests_gets_the_answers_of_each_alone(crowd: Start, seed: int) -> None:
    """Good and bad items in requests of all sizes, merged with those of others."""
    clients = crowd("Totals", 6, MODELS, OMI_BATCH_DELAY_MS=3, MARKS="/nowhere")
    rng = random.Random(seed)

    def item() -> dict[str, Any]:
        first = rng.choice([1, 2, 3, 4, 5, 6, 7, 8, -1, -2])  # -1 is refused, -2 breaks the model
        return {"pair": [first, rng.randrange(100)]}

    mixes = [[[item() for _ in range(rng.randrange(1, 6))] for _ in range(6)] for _ in clients]
    place = {id(client): i for i, client in enumerate(clients)}
    together = at_once(clients, lambda client: [client.infer(m) for m in mixes[place[id(client)]]])
    alone = [[clients[0].infer(request) for request in mix] for mix in mixes]
    assert together == alone


@only(KServeV1Client, KServeV2Client, KServeGRPCClient)
def test_a_huge_request_does_not_hold_up_the_small(crowd: Start) -> None:
    clients = crowd("Slow", 2, OMI_QUEUE_SIZE=100_000)
    small, large = clients
    huge = [{"pair": [i, 1]} for i in range(2000)]
    done: list[list[Outcome]] = []
    thread = threading.Thread(target=lambda: done.append(large.infer(huge)), daemon=True)
    thread.start()
    answered = 0
    while not done and answered < 20:
        assert value(small.infer([{"pair": [answered, 2]}])) == answered + 2
        answered += 1
    assert answered == 20
    assert not done, "twenty small ones were answered while the huge one was under way"
    thread.join(60)
    assert [value([outcome]) for outcome in done[0]] == [i + 1 for i in range(2000)]
