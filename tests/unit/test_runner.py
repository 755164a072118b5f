"""One loaded model's calls: every failure is its own item's, and answers keep their order."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from typing import Annotated, Any, NamedTuple, TypedDict

import numpy as np
import pytest
from handlers import loaded, plain, run, tensor, told
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from omi_runtime import InferenceFailed, InvalidInput, Json, Model, OMIError, Tensor, Text
from omi_runtime.batch import Batch, Result
from omi_runtime.handler import ModelHandler
from omi_runtime.jsontext import NanPolicy
from omi_runtime.runner import Wanted

Number = Annotated[np.ndarray, Tensor("FP32")]
ALL = Wanted(explanation=True, drift=True)

RAISE, REFUSE, SHORT, MEMORY, TEXT, NAN = -1, -2, -3, -4, -5, -6
"""Numbers that make a model misbehave."""


class Doubles(Model):
    """One at a time; some numbers make it misbehave."""

    def predict(self, x: Number) -> Number:
        match x.item():
            case -1:
                raise ZeroDivisionError("x")
            case -2:
                raise InvalidInput("x is refused")
            case -4:
                raise MemoryError
            case -5:
                return "text"
        return x * 2


class BatchedDoubles(Model):
    """The same in batches: a marked number spoils the whole batch."""

    max_batch_size = 16

    def predict(self, x: Number) -> Number:
        if RAISE in x:
            raise ZeroDivisionError("x")
        if REFUSE in x:
            raise InvalidInput("x is refused")
        if MEMORY in x:
            raise MemoryError
        if TEXT in x:
            return "text"
        if SHORT in x:
            return (x * 2)[1:]
        return x * 2


SAID = {
    RAISE: "INFERENCE_FAILED: {name}: ZeroDivisionError: x",
    REFUSE: "INVALID_INPUT: x is refused",
    MEMORY: "OVERLOADED: {name}: out of memory; try again later",
    TEXT: "INFERENCE_FAILED: {name}: output 'output' {text}",
    SHORT: "INFERENCE_FAILED: {name}: output 'output' has 0 rows, expected 1: one for each item",
}


@pytest.mark.parametrize(
    ("model", "marked"),
    [
        *((Doubles, marked) for marked in (RAISE, REFUSE, MEMORY, TEXT)),
        *((BatchedDoubles, marked) for marked in (RAISE, REFUSE, MEMORY, TEXT, SHORT)),
    ],
)
async def test_only_the_culprits_fail(model: type[Model], marked: int) -> None:
    async with loaded(model) as handler:
        result = await handler.infer(tensor(1, marked, 3, marked, 5))
    batched = model is BatchedDoubles
    text = "is one str, expected a list of 1" if batched else "holds str128 values where FP32"
    first, second, third, fourth, fifth = told(result)
    assert (first, third, fifth) == (2, 6, 10)
    assert second == fourth
    assert second.startswith(SAID[marked].format(name=model.name, text=text))


def test_each_item_is_answered_as_if_it_were_alone() -> None:
    numbers = st.sampled_from([RAISE, REFUSE, SHORT, MEMORY, TEXT, 1, 2, 3, 4])

    async def one_by_one(handler: ModelHandler, values: list[int]) -> list[Any]:
        return [told(await handler.infer(tensor(value)))[0] for value in values]

    @given(values=st.lists(numbers, min_size=1, max_size=40))
    @settings(max_examples=25)
    def together_as_alone(values: list[int]) -> None:
        async def scenario() -> None:
            async with loaded(BatchedDoubles) as handler:
                result = await handler.infer(tensor(*values))
                assert result.n == len(values)
                assert told(result) == await one_by_one(handler, values)

        run(scenario())

    together_as_alone()


class Item(NamedTuple):
    """What a model saw: whether it could write, and the shape."""

    writeable: bool
    shape: tuple[int, ...]


class Looks(Model):
    max_batch_size = 4

    def __init__(self) -> None:
        self.seen: list[Item] = []
        type(self).last = self

    def look(self, x: np.ndarray) -> None:
        self.seen.append(Item(x.flags.writeable, x.shape))

    def predict(self, x: Annotated[np.ndarray, Tensor("FP32", [2])]) -> Number:
        self.look(x)
        return x.sum(axis=-1)

    def explain(self, x) -> list[int]:
        self.look(x)
        return [0] * len(x)


class LooksBefore(Looks):
    def preprocess(self, x: Annotated[np.ndarray, Tensor("FP32", [2])]) -> dict[str, Any]:
        self.look(x)
        return {"x": x + 1}


class LooksAtOne(Looks):
    max_batch_size = 1


class LooksWhileYielding(Looks):
    max_batch_size = 1

    def predict(self, x: Annotated[np.ndarray, Tensor("FP32", [2])]) -> Iterator[Number]:
        self.look(x)
        yield x[0]


@pytest.mark.parametrize("model", [Looks, LooksBefore, LooksAtOne, LooksWhileYielding])
@pytest.mark.parametrize("n", [1, 3])
async def test_arrays_are_read_only_wherever_the_author_sees_them(
    model: type[Looks], n: int
) -> None:
    async with loaded(model, batch_delay_ms=1) as handler:
        one = [handler.infer(tensor([1, 2]), ALL) for _ in range(n)]
        await asyncio.gather(*one, handler.infer(tensor(*[[3, 4]] * n), ALL))
        if model is LooksWhileYielding:
            async for _ in handler.infer_stream(tensor([1, 2])):
                pass
        seen = model.last.seen
    assert len(seen) >= 2
    assert not any(item.writeable for item in seen)
    batched = model.max_batch_size > 1
    assert (2,) not in {item.shape for item in seen} or not batched or model is LooksBefore


class Scalars(Model):
    """Bare int, float and bool hints give Python's own numbers."""

    def predict(self, a: int, b: float = 0.5, c: bool = True) -> str:
        return f"{a!r} {b!r} {c!r}"


async def test_bare_hints_give_pythons_own_numbers() -> None:
    async with loaded(Scalars) as handler:
        row = {"a": np.array(7), "b": np.array(1.5), "c": np.array(False)}
        result = await handler.infer_rows([row, {"a": np.array(7)}])
    assert told(result) == ["7 1.5 False", "7 0.5 True"]


# --- preprocess and postprocess ---


class Tokens(Model):
    """Text to numbers before, numbers to text after; in batches between."""

    max_batch_size = 8

    def preprocess(self, text: str) -> dict[str, Any]:
        if text == "refuse":
            raise InvalidInput("text: refused")
        if text == "wrong":
            return [1]  # type: ignore[return-value]
        return {"ids": np.array([len(word) for word in text.split()]), "width": len(text.split())}

    def predict(self, ids, width) -> dict[str, Any]:
        assert isinstance(ids, np.ndarray)
        assert ids.shape[1] == width[0]
        return {"total": ids.sum(axis=1), "longest": ids.max(axis=1)}

    def postprocess(self, total, longest) -> str:
        if total == 13:
            raise ValueError("unlucky")
        return f"{total}/{longest}"


NO_MAPPING = (
    "INFERENCE_FAILED: tokens: preprocess answered list, expected a mapping of predict's parameters"
)


async def test_items_are_prepared_alone_merged_by_shape_and_finished_alone() -> None:
    texts = ["a bb", "refuse", "ccc dd", "a", "wrong", "unlucky thirteen"[:14], "ff g"]
    async with loaded(Tokens) as handler:
        result = await handler.infer(Batch({"text": texts}, len(texts)))
    assert told(result) == [
        "3/2",
        "INVALID_INPUT: text: refused",
        "5/3",
        "1/1",
        NO_MAPPING,
        "INFERENCE_FAILED: tokens: ValueError: unlucky",
        "3/2",
    ]


class Shapeshifter(Model):
    """Preprocess turns a number into an array of the same name."""

    def preprocess(self, x: int) -> dict[str, Any]:
        assert type(x) is int
        return {"x": np.arange(x)}

    def predict(self, x) -> int:
        return int(x.sum())


async def test_what_preprocess_made_reaches_predict_as_it_is() -> None:
    async with loaded(Shapeshifter) as handler:
        result = await handler.infer(tensor(3, 1, dtype="<i8"))
    assert told(result) == [3, 0]


class Raw(Model):
    """Postprocess of a bare answer."""

    def predict(self, x: Number) -> Any:
        return x.item()

    def postprocess(self, raw) -> Annotated[Any, Json(name="facts")]:
        return {"raw": raw}


class BatchedRaw(Raw):
    max_batch_size = 4

    def predict(self, x: Number) -> Any:
        return x


@pytest.mark.parametrize("model", [Raw, BatchedRaw])
async def test_postprocess_takes_a_bare_answer(model: type[Model]) -> None:
    async with loaded(model) as handler:
        result = await handler.infer(tensor(1, 2))
    assert told(result, "facts") == [{"raw": 1}, {"raw": 2}]


# --- JSON by the author's types ---


class Question(BaseModel):
    text: str
    times: int = 1


class Answer(TypedDict):
    said: str


class Repeats(Model):
    max_batch_size = 4

    def predict(
        self, question: Annotated[list[Question], Json()], extra: Annotated[list[int], Json()] = ()
    ) -> Annotated[list[Answer], Json()]:
        assert all(isinstance(one, Question) for one in question)
        return [{"said": one.text * one.times} for one in question]


async def test_a_batched_column_of_json_is_validated_item_by_item() -> None:
    async with loaded(Repeats) as handler:
        result = await handler.infer(
            Batch({"question": [{"text": "a", "times": 2}, {"times": 1}, {"text": "b"}]}, 3)
        )
    assert told(result) == [
        {"said": "aa"},
        "INVALID_INPUT: question.text: Field required",
        {"said": "b"},
    ]


# --- explanation and drift ---


class Explains(Model):
    """Explains and measures drift, if its number allows."""

    max_batch_size = 8

    def predict(self, x: Number) -> Number:
        if RAISE in x:
            raise ZeroDivisionError
        return x

    def explain(self, x) -> list[Any]:
        if SHORT in x:
            return []
        if NAN in x:
            return [{"why": np.nan}] * len(x)
        return [{"why": float(value)} for value in x]

    def drift(self, x) -> np.ndarray:
        if REFUSE in x:
            raise RuntimeError("no drift today")
        return x / 2


class ExplainsOne(Explains):
    max_batch_size = 1

    def explain(self, x) -> Any:
        return None if x == SHORT else super().explain(x.reshape(1))[0]


async def test_a_failing_explanation_or_drift_never_fails_the_prediction() -> None:
    async with loaded(Explains) as handler:
        result = await handler.infer(tensor(1, SHORT, NAN, REFUSE, RAISE, 6), ALL)
    assert told(result)[:4] == [1, SHORT, NAN, REFUSE]
    assert list(result.errors) == [4]
    why = [_extra(value) for value in result.explanation or []]
    assert why == [
        {"why": 1},
        "explains: the answer of explain has 0 rows, expected 1",
        "explains: holds NaN, which JSON cannot hold",
        {"why": REFUSE},
        None,
        {"why": 6},
    ]
    drift = [_extra(value) for value in result.drift or []]
    assert drift == [0.5, -1.5, -3, "explains: RuntimeError: no drift today", None, 3]


def _extra(value: Any) -> Any:
    """An explanation or drift, or of its error what stands before the advice."""
    if isinstance(value, OMIError):
        return value.message.split(": OMI")[0].split(": one")[0]
    return plain(value)


async def test_a_failing_explanation_fails_for_its_item_alone() -> None:
    async with loaded(Explains) as handler:
        result = await handler.infer(tensor(1, SHORT, NAN, REFUSE, 6), ALL)
    assert told(result) == [1, SHORT, NAN, REFUSE, 6]
    why = [_extra(value) for value in result.explanation or []]
    assert [type(value) for value in why] == [dict, str, str, dict, dict]
    drift = [_extra(value) for value in result.drift or []]
    assert [type(value) for value in drift] == [float, float, float, str, float]


async def test_an_explanation_of_a_single_item() -> None:
    async with loaded(ExplainsOne) as handler:
        result = await handler.infer(tensor(1, NAN, SHORT), ALL)
    assert told(result) == [1, NAN, SHORT]
    assert result.explanation is not None
    assert _extra(result.explanation[0]) == {"why": 1}
    assert isinstance(result.explanation[1], InferenceFailed)
    assert _extra(result.explanation[2]) is None


@pytest.mark.parametrize(
    ("wanted", "explained", "drifted"),
    [(Wanted(), False, False), (Wanted(True), True, False), (Wanted(drift=True), False, True)],
)
async def test_only_what_is_wanted_is_computed(
    wanted: Wanted, explained: bool, drifted: bool
) -> None:
    async with loaded(Explains) as handler:
        result = await handler.infer(tensor(1), wanted)
    assert (result.explanation is not None, result.drift is not None) == (explained, drifted)


async def test_what_the_model_does_not_offer_is_null_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "omi_runtime")
    async with loaded(Doubles) as handler:
        result = await handler.infer(tensor(1), ALL)
    assert (told(result), result.explanation, result.drift) == ([2], None, None)
    assert "asked for, which doubles does not have" in caplog.text


# --- OMI_NAN and OMI_ERROR_DETAIL ---


class Unfinished(Model):
    def predict(self, x: Number) -> Annotated[dict[str, Any], Json()]:
        return {"x": np.nan if x < 0 else x, "same": np.float32(x)}


@pytest.mark.parametrize(
    ("nan", "answer"),
    [
        (NanPolicy.ERROR, "INFERENCE_FAILED: unfinished: output 'output' holds NaN, which JSON"),
        (NanPolicy.NULL, {"x": None, "same": -1}),
        (NanPolicy.STRING, {"x": "NaN", "same": -1}),
    ],
)
async def test_nan_in_json_follows_omi_nan(nan: NanPolicy, answer: Any) -> None:
    async with loaded(Unfinished, nan=nan) as handler:
        first, second = told(await handler.infer(tensor(-1, 2)))
    assert second == {"x": 2, "same": 2}
    assert first == answer or first.startswith(answer)


async def test_nan_in_a_tensor_is_not_this_layers_business() -> None:
    async with loaded(Doubles) as handler:
        result = await handler.infer(tensor(np.inf, np.nan))
    np.testing.assert_array_equal(result.columns["output"], [np.inf, np.nan])


async def test_generic_errors_keep_the_models_words_out_of_answers_and_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with loaded(Doubles, error_detail="generic") as handler:
        result = await handler.infer(tensor(1, RAISE, TEXT, REFUSE))
    generic = "INFERENCE_FAILED: doubles: the model failed; the server's log has the details"
    assert told(result) == [2, generic, generic, "INVALID_INPUT: x is refused"]
    assert "ZeroDivisionError: x" in caplog.text
    assert "output 'output' holds str" in caplog.text


async def test_a_traceback_is_logged_for_what_the_model_raised_not_for_a_refusal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with loaded(Doubles) as handler:
        await handler.infer(tensor(REFUSE))
        assert not caplog.records
        await handler.infer(tensor(RAISE))
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "test_runner.py" in caplog.text


# --- async models ---


class Waits(Model):
    async def predict(self, x: Number) -> Annotated[str, Text()]:
        await asyncio.sleep(0)
        if x == RAISE:
            raise ZeroDivisionError("x")
        if x == REFUSE:
            raise asyncio.CancelledError
        return threading.current_thread().name

    async def explain(self, x) -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name


async def test_an_async_predict_runs_on_the_loops_thread() -> None:
    async with loaded(Waits) as handler:
        result = await handler.infer(tensor(1, RAISE, REFUSE, 4), ALL)
    here = threading.current_thread().name
    first, second, third, fourth = told(result)
    assert first == fourth == here
    assert second == "INFERENCE_FAILED: waits: ZeroDivisionError: x"
    assert third.startswith("INFERENCE_FAILED: waits: CancelledError")
    assert result.explanation is not None
    assert plain(result.explanation[0]) == here


class Together(Model):
    """Answers only when all four callers are there."""

    async def predict(self, x: Number) -> Number:
        self.here = getattr(self, "here", 0) + 1
        while self.here % 4:  # noqa: ASYNC110 - each call is awaited by a thread of its own
            await asyncio.sleep(0.001)
        return x


async def test_calls_of_an_async_predict_are_under_way_together() -> None:
    async with loaded(Together) as handler, asyncio.timeout(30):
        results = await asyncio.gather(*(handler.infer(tensor(i)) for i in range(4)))
    assert [told(result) for result in results] == [[0], [1], [2], [3]]


class CountsOnTheLoop(Model):
    async def predict(self, x: Number) -> AsyncIterator[str]:
        try:
            for number in range(int(x)):
                await asyncio.sleep(0)
                yield f"{number} {threading.current_thread().name}"
        finally:
            type(self).ended = threading.current_thread().name


class Steps:
    """An asynchronous iterator that is no generator: it has nothing to close."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __aiter__(self) -> "Steps":
        return self

    async def __anext__(self) -> str:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return str(self.left)


class StepsDown(Model):
    def predict(self, x: Number) -> AsyncIterator[str]:
        return Steps(int(x))


async def test_an_async_generator_is_stepped_and_ended_on_the_loops_thread() -> None:
    here = threading.current_thread().name
    async with loaded(CountsOnTheLoop) as handler:
        result: Result = await handler.infer(tensor(2))
        assert told(result) == [[f"0 {here}", f"1 {here}"]]
        del CountsOnTheLoop.ended
        values = handler.infer_stream(tensor(5))
        assert told(await anext(values)) == [f"0 {here}"]
        await values.aclose()
        assert CountsOnTheLoop.ended == here


async def test_any_asynchronous_iterator_will_do() -> None:
    async with loaded(StepsDown) as handler:
        assert told(await handler.infer(tensor(3))) == [["2", "1", "0"]]
        assert [told(value) async for value in handler.infer_stream(tensor(2))] == [["1"], ["0"]]


# --- timings ---


class Slow(Model):
    """Sleeps in every stage, each for its own number of milliseconds."""

    def preprocess(self, x: float) -> dict[str, float]:
        time.sleep(0.01)
        return {"y": x}

    def predict(self, y: float) -> float:
        time.sleep(0.02)
        return y

    def postprocess(self, y: float) -> float:
        time.sleep(0.03)
        return y

    def explain(self, y: float) -> float:
        time.sleep(0.04)
        return y


def stages(result: Result) -> dict[str, float]:
    assert result.timings is not None
    return asdict(result.timings)


async def test_every_stage_is_timed() -> None:
    async with loaded(Slow) as handler:
        plainly = await handler.infer(tensor(1.0, dtype="<f8"))
        explained = await handler.infer(tensor(1.0, 2.0, dtype="<f8"), ALL)
    for n, result in ((1, stages(plainly)), (2, stages(explained))):
        assert result["preprocess"] >= n * 0.01
        assert result["predict"] >= n * 0.02
        assert result["postprocess"] >= n * 0.03
        assert 0 < result["formatting"] < result["predict"]
    assert stages(plainly)["explain"] == 0
    assert stages(explained)["explain"] >= 2 * 0.04


class SlowBatch(Model):
    max_batch_size = 2

    def predict(self, x: Number) -> Number:
        time.sleep(0.01)
        if RAISE in x:
            raise ZeroDivisionError("x")
        return x


async def test_a_request_in_several_batches_took_the_time_of_all() -> None:
    async with loaded(SlowBatch) as handler:
        result = await handler.infer(tensor(1, 2, 3, 4, 5))
    assert stages(result)["predict"] >= 3 * 0.01


async def test_a_batch_that_failed_took_its_time_too() -> None:
    async with loaded(SlowBatch) as handler:
        result = await handler.infer(tensor(1, RAISE))
    assert list(result.errors) == [1]
    assert stages(result)["predict"] >= 3 * 0.01


class SlowWords(Model):
    def predict(self, text: str) -> Iterator[str]:
        for word in text.split():
            time.sleep(0.01)
            yield word


async def test_each_value_that_is_yielded_has_its_own_time() -> None:
    batch = Batch({"text": ["a b c"]}, 1)
    async with loaded(SlowWords) as handler:
        streamed = [stages(result) async for result in handler.infer_stream(batch)]
        collected = await handler.infer(batch)
    assert len(streamed) == 3
    assert all(value["predict"] >= 0.01 for value in streamed)
    assert stages(collected)["predict"] >= 3 * 0.01
