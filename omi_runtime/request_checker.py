"""What comes in, checked and arranged as it goes to the engine.

Most requests bring all of a model's inputs, each a tensor of the declared datatype and shape. What
such a batch looks like is known when the model has loaded, and so is with what it can be merged: it
passes by one look at each column. All else is checked one thing after the other, which also finds
the words for what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from omi_runtime.batch import Batch, Part, Row, group_rows
from omi_runtime.datatypes import DTYPES
from omi_runtime.errors import OMIError
from omi_runtime.signature import Marker, Signature, Tensor
from omi_runtime.validation import check_batch, check_names, check_tensors


class RequestChecker:
    """Looks at what is asked of one loaded model.

    Args:
        signature: of the model.
        loosened: items are queued as lists, as preprocess may make alike what comes in different
            shapes, which must keep nothing apart.
    """

    def __init__(self, signature: Signature, *, loosened: bool = False) -> None:
        self.signature = signature
        self._loosened = loosened
        usual = {field.name: _usual(field.marker) for field in signature.inputs}
        self._usual = None if loosened or None in usual.values() else usual
        self._usual_key = tuple(usual)  # names alone, as each comes in one kind only

    def batch(self, batch: Batch) -> Batch:
        """A batch as it is to be queued.

        Raises:
            InvalidInput: names the input that is unknown, missing, or of the wrong datatype or
                shape.
        """
        usual = self._usual
        if usual is not None and len(batch.columns) == len(usual):
            for name, column in batch.columns.items():
                have = list if isinstance(column, list) else (column.dtype, column.shape[1:])
                if usual.get(name) != have:
                    break
            else:
                batch.key = self._usual_key
                return batch
        check_batch(batch, self.signature)
        return batch.loosened() if self._loosened else batch

    def row(self, row: Row | OMIError) -> Batch | None:
        """One item as it is to be queued; None if it is not what nearly all are: see `rows`."""
        usual = self._usual
        if usual is None or isinstance(row, OMIError) or len(row) != len(usual):
            return None
        columns: dict[str, Any] = {}
        for name, value in row.items():
            if isinstance(value, np.ndarray):
                have: Any = (value.dtype, value.shape)
                columns[name] = value[None]
            else:
                have = list
                columns[name] = [value]
            if usual.get(name) != have:
                return None
        return Batch(columns, 1, self._usual_key)

    def rows(self, rows: Sequence[Row | OMIError]) -> tuple[list[Part], dict[int, OMIError]]:
        """Items as batches of what is alike, to be queued; and the errors of the others, by row.

        Raises:
            InvalidInput: names the input that is of the wrong datatype or shape.
        """
        parts, errors = group_rows([check_names(row, self.signature) for row in rows])
        for part in parts:
            check_tensors(part.batch, self.signature)
            if self._loosened:
                part.batch = part.batch.loosened()
        return parts, errors


def _usual(marker: Marker) -> Any:
    """What a column of this is: dtype and item shape, or a list; None if items differ in shape."""
    if not isinstance(marker, Tensor):
        return list
    return None if -1 in marker.shape else (DTYPES[marker.datatype], marker.shape)
