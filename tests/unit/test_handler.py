"""The core as adapters see it: loading, readiness, validation, and the whole way of a request."""

import asyncio
import dataclasses
import logging
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

import numpy as np
import pytest
from handlers import handler_of, hold, loaded, reached, tensor, told, until, within

from omi_runtime import (
    DeadlineExceeded,
    InvalidInput,
    Json,
    LoadError,
    Model,
    ModelNotReady,
    NotOffered,
    OMIError,
    Signature,
    Tensor,
    Text,
)
from omi_runtime.batch import Batch
from omi_runtime.errors import SettingsError
from omi_runtime.handler import ModelHandler
from omi_runtime.lifecycle import Lifecycle, State
from omi_runtime.runner import Wanted
from omi_runtime.settings import Settings

Number = Annotated[np.ndarray, Tensor("FP32")]
TOTALS = f"{Path(__file__).parents[1] / 'models.py'}:Totals"


class Scale(Model):
    """Scale a number."""

    version = "1.2.3"
    max_batch_size = 4

    def predict(self, x: Number, factor: Number = 2, label: str = "none") -> Number:
        return x * factor


# --- the whole way ---


async def test_optional_inputs_may_be_left_out_and_are_not_passed() -> None:
    rows: list[Any] = [
        {"x": np.array(1, "<f4")},
        {"x": np.array(1, "<f4"), "factor": np.array(5, "<f4")},
        {"factor": np.array(7, "<f4"), "x": np.array(1, "<f4"), "label": "a"},
        {"x": np.array(3, "<f4")},
    ]
    async with loaded(Scale) as handler:
        assert told(await handler.infer_rows(rows)) == [2, 5, 7, 6]


async def test_items_that_cannot_be_are_answered_in_their_place() -> None:
    one = np.array(1, "<f4")
    rows: list[Any] = [
        {"x": one},
        InvalidInput("x: is not JSON"),
        {"y": one},
        {"factor": one},
        {"x": one, "wrong": one},
        {"x": np.array(4, "<f4")},
    ]
    async with loaded(Scale) as handler:
        result = await handler.infer_rows(rows)
        assert told(result) == [
            2,
            "INVALID_INPUT: x: is not JSON",
            "INVALID_INPUT: unknown input 'y': this model takes x, factor, label",
            "INVALID_INPUT: input 'x' is missing",
            "INVALID_INPUT: unknown input 'wrong': this model takes x, factor, label",
            8,
        ]
        only_errors = await handler.infer_rows(rows[1:3])
        assert told(only_errors) == told(result)[1:3]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": np.zeros((1, 2), "<f4")}, "x: has shape [2], expected []"),
        ({"x": np.zeros(1, "<f8")}, "x: expected FP32 values"),
        ({"x": [1.0]}, "x: expected FP32 values"),
        ({}, "input 'x' is missing"),
        ({"x": np.zeros(1, "<f4"), "z": [1]}, "unknown input 'z': this model takes x, factor"),
    ],
)
async def test_a_batch_has_to_fit_the_signature(columns: Any, message: str) -> None:
    async with loaded(Scale) as handler:
        for ask in (handler.infer, lambda batch: anext(handler.infer_stream(batch))):
            with pytest.raises(InvalidInput) as refused:
                await ask(Batch(columns, 1))
            assert refused.value.message.startswith(message)


class Everything(TypedDict):
    number: Number
    matrix: Annotated[np.ndarray, Tensor("INT8", [2, -1])]
    text: str
    data: bytes
    json: dict


class GivesEverything(Model):
    def predict(self, x: Number) -> Everything:
        raise AssertionError("no rows reach no model")


async def test_zero_rows_are_answered_with_zero_rows() -> None:
    async with loaded(GivesEverything) as handler:
        for result in (
            await handler.infer(tensor()),
            await handler.infer_rows([]),
        ):
            assert (result.n, result.errors) == (0, {})
            shapes = {name: np.shape(column) for name, column in result.columns.items()}
            assert shapes == {
                "number": (0,),
                "matrix": (0, 2, 0),
                "text": (0,),
                "data": (0,),
                "json": (0,),
            }
            assert result.columns["matrix"].dtype == np.int8


@dataclasses.dataclass
class Record:
    label: str
    score: Annotated[float, Tensor("FP32")]


class Row(NamedTuple):
    label: str
    score: Annotated[float, Tensor("FP32")]


class Names(TypedDict):
    label: str
    score: Annotated[float, Tensor("FP32")]


def gives(form: Any, hint: Any, size: int = 1) -> type[Model]:
    class Gives(Model):
        max_batch_size = size

        def predict(self, x: Number): ...

    def predict(self: Any, x: np.ndarray) -> Any:
        label = [f"<{i:g}>" for i in np.atleast_1d(x)]
        return form(label=label if size > 1 else label[0], score=x / 2)

    predict.__annotations__ = {"x": Number, "return": hint}
    Gives.predict = predict
    return Gives


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("hint", [Names, Record, Row])
@pytest.mark.parametrize("form", [dict, Record, Row])
async def test_several_outputs_come_as_a_mapping_or_a_record(
    form: Any, hint: Any, size: int
) -> None:
    async with loaded(gives(form, hint, size)) as handler:
        result = await handler.infer(tensor(1, 2))
    assert told(result, "label") == ["<1>", "<2>"]
    assert told(result, "score") == [0.5, 1]


class AtRunTime(Model):
    """What it takes is known only after the load."""

    given: Any = Signature.of({"a": Tensor("FP32"), "b": Text()}, {"joined": Text()})

    def load(self) -> None:
        self.signature = self.given

    def predict(self, **columns: Any) -> Any:
        return "".join(str(columns[name]) for name in sorted(columns))


async def test_a_signature_may_be_known_only_after_the_load() -> None:
    async with loaded(AtRunTime) as handler:
        result = await handler.infer_rows([{"b": "!", "a": np.array(1, "<f4")}])
        assert told(result, "joined") == ["1.0!"]
        assert handler.card is not None
        assert [file.filename for file in handler.card.inputs] == ["a", "b"]


class NotAtAll(AtRunTime):
    given = None


class Wrong(AtRunTime):
    given = ("a", "FP32")


@pytest.mark.parametrize("model", [NotAtAll, Wrong])
async def test_a_signature_that_never_comes_is_an_error_of_the_load(model: type[Model]) -> None:
    with pytest.raises(
        LoadError, match=rf"{model.__name__}.predict takes \*\*columns, so load\(\)"
    ):
        await handler_of(model).load()


# --- loading and readiness ---


class Slow(Model):
    def load(self) -> None:
        type(self).thread = threading.current_thread().name
        self.began.set()
        hold(self.gate)

    def predict(self, x: Number) -> Number:
        assert threading.current_thread().name == self.thread
        return x


async def test_callers_wait_while_the_model_loads() -> None:
    Slow.began, Slow.gate = threading.Event(), threading.Event()
    handler = handler_of(Slow)
    assert handler.live
    assert not handler.ready
    loading = asyncio.create_task(handler.load())
    await reached(Slow.began, "the load is under way")
    asking = [
        asyncio.create_task(handler.infer(tensor(1))),
        asyncio.create_task(handler.loaded()),
        asyncio.create_task(handler.reload_if_failed()),
    ]
    await asyncio.sleep(0)
    assert not any(task.done() for task in asking)
    assert (handler.live, handler.ready) == (True, False)
    assert handler.card is not None  # metadata does not wait for the load
    assert handler.name == "slow"
    with pytest.raises(ModelNotReady, match="the model is loading"):
        _ = handler.signature
    Slow.gate.set()
    await loading
    assert told(await asking[0]) == [1]
    assert (await asking[1]) is handler.signature
    assert handler.ready
    assert await handler.close(5)


class Mends(Model):
    """Fails to load until it is mended."""

    broken = True
    loads = 0

    def load(self) -> None:
        type(self).loads += 1
        if self.broken:
            raise FileNotFoundError("the weights are missing")

    def predict(self, x: Number) -> Number:
        return x


async def test_a_failed_load_is_told_and_can_be_repeated_once_for_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Mends.broken, Mends.loads = True, 0
    handler = handler_of(Mends)
    with pytest.raises(LoadError, match="model mends did not load: FileNotFoundError: the weights"):
        await handler.load()
    assert "test_handler.py" in caplog.text  # the author's traceback
    assert (handler.live, handler.ready) == (True, False)
    assert handler.lifecycle.state is State.FAILED
    assert handler.card is not None
    with pytest.raises(ModelNotReady):
        await handler.infer(tensor(1))
    with pytest.raises(ModelNotReady, match="the weights are missing"):
        await handler.reload_if_failed()
    assert Mends.loads == 2
    Mends.broken = False
    await asyncio.gather(*(handler.reload_if_failed() for _ in range(5)))
    assert Mends.loads == 3
    assert handler.ready
    assert told(await handler.infer(tensor(1))) == [1]
    await handler.reload_if_failed()
    assert Mends.loads == 3
    assert await handler.close(5)


class Exits(Mends):
    def load(self) -> None:
        raise SystemExit(4)


class BadConstructor(Mends):
    def __init__(self) -> None:
        raise ValueError("no constructor")


@pytest.mark.parametrize(
    ("model", "message"),
    [(Exits, "exits did not load: SystemExit: 4"), (BadConstructor, "ValueError: no constructor")],
)
async def test_whatever_a_load_raises_is_a_load_error(model: type[Model], message: str) -> None:
    handler = handler_of(model)
    with pytest.raises(LoadError, match=message):
        await handler.load()
    assert handler.lifecycle.state is State.FAILED


async def test_generic_errors_keep_the_models_words_out_of_not_ready_too() -> None:
    Mends.broken = True
    handler = handler_of(Mends, error_detail="generic")
    with pytest.raises(LoadError):
        await handler.load()
    with pytest.raises(ModelNotReady) as refused:
        await handler.reload_if_failed()
    assert "weights" not in refused.value.message


def broken_class(**attributes: Any) -> type[Model]:
    def predict(self: Any, x: Number) -> Number: ...

    return type("Odd", (Model,), {"predict": predict, "__module__": __name__, **attributes})


def yielding(self: Any, x: Number) -> Iterator[str]: ...


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"max_batch_size": 0}, "Odd.max_batch_size is 0, expected >= 1"),
        ({"max_batch_size": "8"}, "Odd.max_batch_size is '8', expected >= 1"),
        ({"max_batch_size": None}, "Odd.max_batch_size is None, expected >= 1"),
        ({"version": 1.0}, "Odd.version is 1.0, expected a string"),
        ({"name": 5}, "Odd.name is 5, expected a string"),
        (
            {"predict": yielding, "max_batch_size": 2},
            "Odd.predict yields, so its max_batch_size has to be 1",
        ),
        (
            {"postprocess": yielding},
            "Odd.postprocess cannot yield: it is called once for each item",
        ),
    ],
)
async def test_attributes_that_cannot_be_are_named(
    attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(LoadError) as refused:
        await handler_of(broken_class(**attributes)).load()
    assert str(refused.value) == message


# --- names, and what is offered ---


async def test_the_name_served_is_the_models_or_model_name() -> None:
    async with loaded(Scale) as handler:
        assert handler.name == "scale"
        assert (handler.explains, handler.detects_drift) == (False, False)
    async with loaded(Scale, model_name="prod/scale") as handler:
        assert handler.name == "prod/scale"


class Offers(Model):
    def predict(self, x: Number) -> Number:
        return x

    def explain(self, x: Any) -> str:
        return "because"

    def drift(self, x: Any) -> float:
        return 0.5


async def test_what_the_model_offers() -> None:
    async with loaded(Offers) as handler:
        assert handler.explains
        assert handler.detects_drift


# --- stopping ---


async def test_close_is_called_once_after_the_last_answer() -> None:
    calls: list[str] = []

    class Closes(Model):
        def predict(self, x: Number) -> Number:
            calls.append("predict")
            return x

        def close(self) -> None:
            calls.append("close")

    async with loaded(Closes) as handler:
        await handler.infer(tensor(1))
    assert calls == ["predict", "close"]


class Stuck(Model):
    def load(self) -> None:
        type(self).entered, type(self).gate = threading.Event(), threading.Event()

    def predict(self, x: Number) -> Number:
        self.entered.set()
        hold(self.gate)
        return x


async def test_a_model_that_still_runs_cannot_be_closed() -> None:
    handler = handler_of(Stuck)
    await handler.load()
    asking = asyncio.create_task(handler.infer(tensor(1)))
    await reached(Stuck.entered, "the model is busy")
    assert handler.running
    assert not await handler.close(0.05)
    Stuck.gate.set()
    await asking
    await until(lambda: not handler.running, "it has ended")


async def test_after_the_stop_has_begun_a_load_ends_in_no_ready_state() -> None:
    Slow.began, Slow.gate = threading.Event(), threading.Event()
    handler = handler_of(Slow)
    loading = asyncio.create_task(handler.load())
    await reached(Slow.began, "the load is under way")
    waiting = asyncio.create_task(handler.infer(tensor(1)))
    await asyncio.sleep(0)
    handler.lifecycle.move(State.DRAINING)
    with pytest.raises(ModelNotReady, match="the server is stopping"):
        await waiting
    Slow.gate.set()
    await loading
    assert not handler.ready
    assert handler.lifecycle.state is State.DRAINING
    await handler.close(5)
    handler.lifecycle.move(State.STOPPED)
    assert not handler.live


# --- the model of the conformance tests, from its file ---


async def test_a_model_is_loaded_from_its_file(forgetful: None) -> None:
    handler = ModelHandler(Settings(model=TOTALS), Lifecycle())
    await handler.load()
    result = await handler.infer(tensor([1, 2], [3, 4], name="pair"), Wanted(explanation=True))
    assert told(result, "total") == [3, 7]
    assert result.explanation is not None
    assert handler.card is not None
    assert handler.card.version == "1.2.0"
    assert await handler.close(5)


async def test_what_names_no_model_is_an_error_of_the_settings(tmp_path: Path) -> None:
    handler = ModelHandler(Settings(model=str(tmp_path)), Lifecycle())
    with pytest.raises(SettingsError, match="names no model"):
        await handler.load()
    assert handler.lifecycle.state is State.FAILED
    assert handler.card is None
    assert handler.name == ""
    with pytest.raises(ModelNotReady):
        await handler.reload_if_failed()


class Refuses(Model):
    """Raises each of our errors, as an author may."""

    def predict(self, kind: str) -> Annotated[dict, Json()]:
        raise {"input": InvalidInput, "offer": NotOffered, "ready": ModelNotReady}[kind](kind)


async def test_an_author_may_raise_any_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with loaded(Refuses) as handler:
        result = await handler.infer(Batch({"kind": ["input", "offer", "ready"]}, 3))
    assert told(result) == [
        "INVALID_INPUT: input",
        "NOT_OFFERED: offer",
        "MODEL_NOT_READY: ready",
    ]
    assert all(isinstance(error, OMIError) for error in result.errors.values())
    assert not caplog.records


# --- limits of time ---


@pytest.mark.parametrize(
    ("run", "operator", "caller", "expected"),
    [
        (None, 60, None, (60, "limit of OMI_TIMEOUT")),
        (None, 0, None, (math.inf, "limit of OMI_TIMEOUT")),
        (None, 60, 2, (2, "limit that the caller set")),
        (None, 60, 90, (60, "limit of OMI_TIMEOUT")),
        (None, 0, 90, (90, "limit that the caller set")),
        ("20s", 60, None, (20, "timeout.run of model.yaml")),
        ("1m30s", 60, None, (90, "timeout.run of model.yaml")),
        ("1m30s", 60, 70, (70, "limit that the caller set")),
        ("20s", 60, 70, (20, "timeout.run of model.yaml")),
        ("20s", 0, None, (20, "timeout.run of model.yaml")),
        ("0s", 60, None, (math.inf, "timeout.run of model.yaml")),
    ],
)
async def test_the_limit_of_a_request(
    write: Any, run: str | None, operator: float, caller: float | None, expected: tuple[float, str]
) -> None:
    files = {
        "model.py": """
            from omi_runtime import Model
            class Echo(Model):
                def predict(self, x: str) -> str:
                    return x
        """
    }
    if run:
        files["model.yaml"] = f'specification: "0.4"\ntimeout: {{run: {run}}}\n'
    handler = ModelHandler(Settings(model=str(write(**files)), timeout=operator), Lifecycle())
    await handler.load()
    request = within(handler, caller)
    seconds, source = expected
    assert request.deadline == request.started + seconds
    assert request.expired().message == f"not answered within {seconds:.3g} s, the {source}"
    result = await handler.infer_rows([{"x": "a"}], request=request)
    assert told(result) == ["a"]
    assert await handler.close(1)


async def test_a_models_own_limit_is_kept(write: Any) -> None:
    directory = write(
        **{
            "model.py": """
                import threading
                from omi_runtime import Model
                class Stuck(Model):
                    gate = threading.Event()
                    def predict(self, x: str) -> str:
                        self.gate.wait(30)
                        return x
            """,
            "model.yaml": 'specification: "0.4"\ntimeout: {run: 50ms}\n',
        }
    )
    handler = ModelHandler(Settings(model=str(directory)), Lifecycle())
    await handler.load()
    with pytest.raises(DeadlineExceeded, match=r"within 0.05 s, the timeout.run of model.yaml$"):
        await handler.infer_rows([{"x": "a"}])
    with pytest.raises(DeadlineExceeded, match=r"within 0.01 s, the limit that the caller set$"):
        await handler.infer_rows([{"x": "a"}], request=within(handler, 0.01))
    assert handler._model
    handler._model.gate.set()  # type: ignore[attr-defined]
    assert await handler.close(30)


async def test_a_limit_holds_for_a_load_that_is_waited_for() -> None:
    gate, calls = threading.Event(), []

    class SecondTime(Scale):
        def load(self) -> None:
            calls.append(1)
            if len(calls) == 1:
                raise RuntimeError("not yet")
            hold(gate)

    handler = handler_of(SecondTime)
    with pytest.raises(LoadError):
        await handler.load()
    waiting = [asyncio.create_task(handler.reload_if_failed()) for _ in range(3)]
    with pytest.raises(DeadlineExceeded):
        await handler.reload_if_failed(within(handler, 0.02))
    with pytest.raises(DeadlineExceeded):
        await handler.loaded(within(handler, 0))
    with pytest.raises(DeadlineExceeded):
        await handler.infer(tensor(1), request=within(handler, 0.02))
    waiting.pop(0).cancel()  # the one that began the load: the load goes on
    await asyncio.sleep(0)
    assert handler.lifecycle.state is State.LOADING
    gate.set()
    await asyncio.gather(*waiting)
    assert told(await handler.infer(tensor(1))) == [2]
    assert len(calls) == 2
    assert await handler.close(1)


class Picky(Model):
    """Refuses negative numbers; answers into the same array every time."""

    max_batch_size = 64

    def load(self) -> None:
        self.buffer = np.zeros((64, 2), dtype="<f4")
        self.entered, self.gate = threading.Event(), threading.Event()

    def predict(
        self, x: Annotated[np.ndarray, Tensor("FP32")]
    ) -> Annotated[np.ndarray, Tensor("FP32", [2])]:
        if (x < 0).any():
            raise InvalidInput("negative")
        if (x == 1000).any():
            self.entered.set()
            hold(self.gate)
        self.buffer[: len(x)] = x[:, None]
        return self.buffer[: len(x)]


async def test_a_neighbours_bad_item_changes_nothing_for_a_good_request() -> None:
    async with loaded(Picky) as handler:
        picky: Any = handler._model
        first = asyncio.create_task(handler.infer(tensor(1000.0)))
        await reached(picky.entered, "the model is busy, so that the next two are merged")
        good = asyncio.create_task(handler.infer(tensor(1.0, 2.0)))
        bad = asyncio.create_task(handler.infer(tensor(3.0, -1.0)))
        await asyncio.sleep(0)
        picky.gate.set()
        await first
        assert told(await bad) == [[3.0, 3.0], "INVALID_INPUT: negative"]
        answer = await good
        assert isinstance(answer.columns["output"], np.ndarray)
        assert answer.columns["output"].tolist() == [[1.0, 1.0], [2.0, 2.0]]


async def test_a_model_may_answer_into_the_same_array_again() -> None:
    async with loaded(Picky) as handler:
        first = await handler.infer(tensor(1.0))
        second = await handler.infer(tensor(2.0))
        assert (told(first), told(second)) == ([[1.0, 1.0]], [[2.0, 2.0]])


class Padded(Model):
    """Takes rows of any length, which preprocess makes alike."""

    max_batch_size = 64

    def load(self) -> None:
        self.sizes: list[int] = []
        self.entered, self.gate = threading.Event(), threading.Event()

    def preprocess(self, x: Annotated[np.ndarray, Tensor("FP32", [-1])]) -> dict[str, Any]:
        assert not x.flags.writeable
        return {"row": np.pad(x, (0, 8 - len(x)))}

    def predict(self, row: np.ndarray) -> Annotated[np.ndarray, Tensor("FP32")]:
        self.sizes.append(len(row))
        if not self.entered.is_set():
            self.entered.set()
            hold(self.gate)
        return row.sum(axis=1)


async def test_what_preprocess_makes_alike_is_merged_whatever_shape_it_came_in() -> None:
    async with loaded(Padded) as handler:
        padded: Any = handler._model
        first = asyncio.create_task(handler.infer(tensor([1.0])))
        await reached(padded.entered, "the model is busy, so that the rest is merged")
        rows = [[1.0] * length for length in range(1, 8)]
        rest = [asyncio.create_task(handler.infer(tensor(row))) for row in rows]
        await asyncio.sleep(0)
        padded.gate.set()
        await first
        assert [told(await task) for task in rest] == [[float(len(row))] for row in rows]
        assert padded.sizes == [1, 7]
