"""A model for clients of others."""

from __future__ import annotations

import time
from typing import Annotated

from omi_runtime import Bytes, Model


class Echo(Model):
    """Gives back the bytes that it gets; after a moment if they ask it to wait."""

    def predict(self, data: bytes) -> Annotated[bytes, Bytes(name="output")]:
        if data == b"wait":
            time.sleep(1.0)
        return data
