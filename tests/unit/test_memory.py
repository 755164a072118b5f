"""Memory that runs out, the machine's or a GPU's: callers may try again, and the server lives."""

from __future__ import annotations

import asyncio
from typing import Annotated

import numpy as np
import pytest
from handlers import loaded, tensor, told

from omi_runtime import InvalidInput, Model, Tensor
from omi_runtime.batch import Batch
from omi_runtime.errors import ErrorCode
from omi_runtime.memory import is_out_of_memory, overloaded

Number = Annotated[np.ndarray, Tensor("FP32")]


def foreign(module: str, name: str, base: type[Exception] = RuntimeError) -> type[Exception]:
    """An exception as a library that is not installed here defines it."""
    return type(name, (base,), {"__module__": module})


TorchOOM = foreign("torch", "OutOfMemoryError")
CudaOOM = foreign("torch.cuda", "OutOfMemoryError")
SubclassedOOM = type("MyOOM", (CudaOOM,), {"__module__": "mine"})
ResourceExhausted = foreign("tensorflow.python.framework.errors_impl", "ResourceExhaustedError")
XlaRuntimeError = foreign("jaxlib.xla_extension", "XlaRuntimeError")
OnnxFail = foreign("onnxruntime.capi.onnxruntime_pybind11_state", "RuntimeException")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 7 EiB"),
        TorchOOM("CUDA out of memory. Tried to allocate 20.00 MiB"),
        CudaOOM("no text that tells"),
        SubclassedOOM("x"),
        ResourceExhausted("OOM when allocating tensor"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate"),
        OnnxFail("Failed to allocate memory for requested buffer of size 17"),
    ],
    ids=lambda error: f"{type(error).__module__}.{type(error).__name__}",
)
def test_every_librarys_word_for_it_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)
    answer = overloaded(error)
    assert getattr(answer, "code", None) is ErrorCode.OVERLOADED


def test_it_is_known_through_what_somebody_raised_from_it() -> None:
    error = ValueError("the batch failed")
    error.__cause__ = CudaOOM("x")
    assert is_out_of_memory(error)
    error.__cause__ = KeyError("x")
    assert not is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("out of memory lane"),
        foreign("author", "OutOfMemoryError")("x"),
        XlaRuntimeError("INVALID_ARGUMENT: shapes"),
        InvalidInput("CUDA out of memory"),
    ],
    ids=["text", "same-name", "xla", "refusal"],
)
def test_nothing_else_is_taken_for_it(error: Exception) -> None:
    assert overloaded(error) is error


class Hungry(Model):
    """Has memory for batches of one, and for no number below zero."""

    max_batch_size = 4

    def predict(self, x: Number) -> Number:
        if len(x) > 1 or (x < 0).any():
            raise CudaOOM("CUDA out of memory")
        if (x == 0).any():
            np.empty(1 << 62, "u1")
        return x * 2


async def test_a_batch_that_is_too_large_is_run_item_by_item(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with loaded(Hungry) as handler:
        full = "OVERLOADED: hungry: out of memory; try again later"
        assert told(await handler.infer(tensor(1, -1, 2, 0))) == [2, full, 4, full]
        assert told(await handler.infer(tensor(3))) == [6]
    assert "Traceback" not in caplog.text
    assert caplog.text.count("the model ran out of memory") == 2


async def test_no_memory_to_merge_a_batch_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async with loaded(Hungry) as handler:

        def merge(_batches: list[Batch]) -> Batch:
            raise MemoryError

        with monkeypatch.context() as patched:
            patched.setattr(Batch, "merge", merge)
            answers = await asyncio.gather(*(handler.infer(tensor(n)) for n in (1, 2)))
            full = "OVERLOADED: out of memory; try again later"
            assert [told(answer) for answer in answers] == [[full], [full]]
        assert told(await handler.infer(tensor(1))) == [2]
