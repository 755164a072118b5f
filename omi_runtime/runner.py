"""Calls the author's methods on one uniform batch.

Runs on the engine's threads. Nothing that an author's code raises escapes from here: every failure
becomes the error of its own item.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, NamedTuple

import numpy as np

from omi_runtime import answers
from omi_runtime.batch import Batch, Column, Result, group_rows
from omi_runtime.coroutines import result_of, values_of
from omi_runtime.errors import InferenceFailed, OMIError
from omi_runtime.failures import Failures, log_failures
from omi_runtime.jsontext import NanPolicy
from omi_runtime.model import Model
from omi_runtime.signature import Signature
from omi_runtime.timings import Timings


class Wanted(NamedTuple):
    """What a caller asks for beside the prediction."""

    explanation: bool = False
    drift: bool = False


NOTHING_MORE: Final = Wanted()


class BatchFailed(Exception):
    """A batch of several items failed as a whole. Run by itself, each has its own outcome.

    Args:
        error: what the author's code raised.
        timings: what it took.
    """

    def __init__(self, error: BaseException, timings: Timings) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.timings = timings


@dataclass(frozen=True, slots=True)
class AnswerRules:
    """How answers and errors are put into words: `OMI_NAN` and `OMI_ERROR_DETAIL`."""

    nan: NanPolicy = NanPolicy.ERROR
    detailed_errors: bool = True


class Runner:
    """One loaded model's calls.

    Args:
        model: loaded.
        signature: what it takes and gives.
        rules: for JSON outputs and error texts.
        loop: where the coroutine of an `async def predict` runs.
    """

    def __init__(
        self,
        model: Model,
        signature: Signature,
        rules: AnswerRules,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._model = model
        self._signature = signature
        self._nan = rules.nan
        self._failures = Failures(model.name, detailed=rules.detailed_errors)
        self._loop = loop
        self._preprocess = getattr(model, "preprocess", None)
        self._postprocess = getattr(model, "postprocess", None)
        self._prepared_by_row = self._preprocess is not None or any(
            field.validate is not None for field in signature.inputs
        )
        self._parameters = {field.name: field.parameter for field in signature.inputs}
        self._renames = any(field.name != field.parameter for field in signature.inputs)
        self._scalars = {
            field.parameter for field in signature.inputs if field.python_type in (bool, int, float)
        }

    @property
    def model_name(self) -> str:
        """What the model calls itself."""
        return self._model.name

    def run(self, batch: Batch, wanted: Wanted = NOTHING_MORE) -> Result:
        """Predict a uniform batch of at most `max_batch_size`: one answer or error per item.

        Raises:
            BatchFailed: predict has not answered it; a batch of one item has an error instead.
        """
        timings = Timings()
        if not self._prepared_by_row:
            if self._renames:
                columns = {self._parameters[name]: column for name, column in batch.columns.items()}
                batch = Batch(columns, batch.n)
            result = self._predict(batch, wanted, timings)
        else:
            _protect(batch)
            parts, errors = group_rows([self._prepare(row, timings) for row in batch.rows()])
            results = [(part.rows, self._predict(part.batch, wanted, timings)) for part in parts]
            results += [([row], Result.failed([error])) for row, error in errors.items()]
            result = Result.assemble(batch.n, results)
        result.timings = timings
        return result

    def stream(self, batch: Batch) -> Iterator[Result]:
        """Predict a single item with a model that yields: one Result per value, as it comes.

        Raises:
            OMIError: in place of the value that failed; nothing follows it.
        """
        _protect(batch)
        timings = Timings()
        prepared = self._prepare(batch.rows()[0], timings)
        if isinstance(prepared, OMIError):
            log_failures([prepared])
            raise prepared
        try:
            for columns in self._values(self._predict_keywords(prepared), timings):
                yield Result(columns, 1, timings=timings.take())
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever an author's code raises
            told = self._failures.told(error)
            log_failures([told])
            raise told from None

    def _prepare(self, row: dict[str, Any], timings: Timings) -> Mapping[str, Any] | OMIError:
        """One item's keywords for predict: Json validated, then the author's preprocess."""
        keywords: dict[str, Any] = {}
        begin = perf_counter()
        try:
            for name, value in row.items():
                validate = self._signature.input_by_name[name].validate
                keywords[self._parameters[name]] = value if validate is None else validate(value)
            if self._preprocess is None:
                return keywords
            prepared = self._preprocess(**self._item_keywords(keywords))
        except BaseException as error:  # noqa: BLE001 - whatever an author's code raises
            return self._failures.told(error)
        finally:
            timings.preprocess += perf_counter() - begin
        if isinstance(prepared, Mapping):
            return prepared
        return self._failures.told(
            InferenceFailed(
                f"preprocess answered {type(prepared).__name__}, expected a mapping of predict's "
                "parameters"
            )
        )

    def _predict(self, batch: Batch, wanted: Wanted, timings: Timings) -> Result:
        _protect(batch)
        if self._model.max_batch_size > 1:
            return self._predict_columns(batch, wanted, timings)
        if batch.n == 1:
            return self._predict_item(batch.rows()[0], wanted, timings)
        return Result.assemble(
            batch.n,
            [([i], self._predict_item(row, wanted, timings)) for i, row in enumerate(batch.rows())],
        )

    def _predict_columns(self, batch: Batch, wanted: Wanted, timings: Timings) -> Result:
        try:
            answer = self._call_predict(batch.columns, timings)
            if self._postprocess is None:
                result = Result(self._read_columns(answer, batch.n, timings), batch.n)
            else:
                items = answers.split_answer(answer, batch.n)
                result = Result.assemble(
                    batch.n,
                    [([i], self._postprocess_item(raw, timings)) for i, raw in enumerate(items)],
                )
        except BaseException as error:
            if batch.n == 1:
                return Result.failed([self._failures.told(error)])
            raise BatchFailed(error, timings) from error
        if wanted is not NOTHING_MORE:
            self._add_extras(result, batch.columns, wanted, timings)
        return result

    def _predict_item(self, row: dict[str, Any], wanted: Wanted, timings: Timings) -> Result:
        try:
            keywords = self._predict_keywords(row)
            if self._signature.streaming:
                values = list(self._values(keywords, timings))
                result = Result(answers.collect(values, self._signature), 1)
            elif self._postprocess is not None:
                result = self._postprocess_item(self._call_predict(keywords, timings), timings)
            else:
                answer = self._call_predict(keywords, timings)
                result = Result(self._read_item(answer, timings), 1)
        except BaseException as error:  # noqa: BLE001 - whatever an author's code raises
            return Result.failed([self._failures.told(error)])
        if wanted is not NOTHING_MORE:
            self._add_extras(result, keywords, wanted, timings)
        return result

    def _call_predict(self, keywords: Mapping[str, Any], timings: Timings) -> Any:
        begin = perf_counter()
        try:
            answer = self._model.predict(**keywords)
            # What inspect.isawaitable asks too, which takes as long as a small prediction.
            return result_of(answer, self._loop) if hasattr(answer, "__await__") else answer
        finally:
            timings.predict += perf_counter() - begin

    def _values(self, keywords: Mapping[str, Any], timings: Timings) -> Iterator[dict[str, Column]]:
        """The answers of a model that yields, each read before the next is asked for."""
        begin = perf_counter()
        for value in values_of(self._model.predict(**keywords), self._loop):
            timings.predict += perf_counter() - begin
            yield self._read_item(value, timings)
            begin = perf_counter()

    def _postprocess_item(self, raw: Any, timings: Timings) -> Result:
        try:
            return Result(self._read_item(self._call_postprocess(raw, timings), timings), 1)
        except BaseException as error:  # noqa: BLE001 - whatever an author's code raises
            return Result.failed([self._failures.told(error)])

    def _call_postprocess(self, raw: Any, timings: Timings) -> Any:
        assert self._postprocess is not None
        begin = perf_counter()
        try:
            answer = (
                self._postprocess(**raw) if isinstance(raw, Mapping) else self._postprocess(raw)
            )
            return result_of(answer, self._loop)
        finally:
            timings.postprocess += perf_counter() - begin

    def _read_columns(self, answer: Any, n: int, timings: Timings) -> dict[str, Column]:
        begin = perf_counter()
        try:
            return answers.read_columns(answer, self._signature, n, self._nan)
        finally:
            timings.formatting += perf_counter() - begin

    def _read_item(self, answer: Any, timings: Timings) -> dict[str, Column]:
        begin = perf_counter()
        try:
            return answers.read_item(answer, self._signature, self._nan)
        finally:
            timings.formatting += perf_counter() - begin

    def _predict_keywords(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """One item's keywords for predict; what preprocess made is not the wire's any more."""
        return self._item_keywords(row) if self._scalars and self._preprocess is None else row

    def _item_keywords(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Where the author hinted `int`, `float` or `bool`, Python's own numbers."""
        return {
            name: value.item() if name in self._scalars and hasattr(value, "item") else value
            for name, value in row.items()
        }

    def _add_extras(
        self, result: Result, keywords: Mapping[str, Any], wanted: Wanted, timings: Timings
    ) -> None:
        """Explanation and drift; their failure never fails the prediction."""
        begin = perf_counter()
        if wanted.explanation and hasattr(self._model, "explain"):
            result.explanation = self._extra(self._model.explain, keywords, result.n)
        if wanted.drift and hasattr(self._model, "drift"):
            result.drift = self._extra(self._model.drift, keywords, result.n)
        timings.explain += perf_counter() - begin

    def _extra(self, method: Callable[..., Any], keywords: Mapping[str, Any], n: int) -> list[Any]:
        label = f"the answer of {method.__name__}"
        try:
            answer = result_of(method(**keywords), self._loop)
            column = answer if self._model.max_batch_size > 1 else [answer]
            return answers.read_extra(column, n, label, self._nan)
        except BaseException as error:  # noqa: BLE001 - whatever an author's code raises
            if n == 1:
                return [self._failures.told(error)]
            batch = Batch(dict(keywords), n)
            return [self._extra(method, batch.slice(i, i + 1).columns, 1)[0] for i in range(n)]


def _protect(batch: Batch) -> None:
    """Make the arrays read-only, so that a model that writes into its input fails at once."""
    for column in batch.columns.values():
        if isinstance(column, np.ndarray):
            column.flags.writeable = False
