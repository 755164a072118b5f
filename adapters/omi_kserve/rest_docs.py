"""The page that describes the API in a browser, and sends requests: `/docs`.

It is one file of ours, read when it is asked for, and loads nothing but `openapi.json`: a container
calls nobody. Its policy has the browser see to that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter, Response

_PAGE: Final = Path(__file__).with_name("docs.html")

_POLICY: Final = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def docs_router() -> APIRouter:
    """The route of the page; it is no part of the API that it describes."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def docs() -> Response:
        headers = {"content-security-policy": _POLICY, "x-content-type-options": "nosniff"}
        return Response(_PAGE.read_bytes(), headers=headers, media_type="text/html")

    return router
