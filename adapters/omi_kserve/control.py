"""What the routes that FastAPI answers have in common: all but those that infer."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import Path, Response

ModelName = Annotated[str, Path(description="The served name.")]
Version = Annotated[str, Path(description="The model's version.")]


def json_response(content: Any, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(content), status, media_type="application/json")
