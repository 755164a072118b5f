"""What the exact routes in front do not answer: the document of the API, its page, other names.

FastAPI describes all routes here, those in front too, in its OpenAPI document; and answers them for
names that are not served. It takes longer to import than all of a server, so it is made when it is
first asked for.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from omi_kserve import rest_info
from omi_kserve.control import ModelName, Version, json_response
from omi_kserve.errors import error_response
from omi_kserve.repository import Repository
from omi_kserve.rest_docs import docs_router
from omi_kserve.rest_info import Told
from omi_kserve.rest_repository import repository_router
from omi_kserve.served import card_of, check_model, not_served
from omi_runtime.errors import OMIError
from omi_runtime.handler import ModelHandler


def make_fallback(handler: ModelHandler, repository: Repository) -> FastAPI:
    """The application around a loaded model."""
    card = card_of(handler)
    app = _Described(
        handler,
        title=handler.name,
        version=card.version,
        description=card.summary,
        # Those pages load their scripts from another host, and a container calls nobody.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_exception_handler(OMIError, _on_error)
    app.add_exception_handler(Exception, _on_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.include_router(_v1_router(handler))
    app.include_router(_v2_router(handler))
    app.include_router(repository_router(handler, repository))
    app.include_router(docs_router())
    return app


class _Described(FastAPI):
    """FastAPI whose document says what this model takes and gives."""

    def __init__(self, handler: ModelHandler, **settings: Any) -> None:
        super().__init__(**settings)
        self._handler = handler

    def openapi(self) -> dict[str, Any]:
        """The document, made when it is first asked for; ModelNotReady of an unloaded model."""
        if self.openapi_schema is None:
            from omi_kserve.openapi import complete  # noqa: PLC0415 - few servers are asked for it

            signature = self._handler.signature  # or else FastAPI keeps a document of its own
            self.openapi_schema = complete(super().openapi(), self._handler, signature)
        return self.openapi_schema


async def _on_error(_request: Request, error: Exception) -> Response:
    response = error_response(error)
    headers = {key.decode(): value.decode() for key, value in response.headers}
    return Response(response.body, response.status, headers)


async def _on_http_error(_request: Request, error: Exception) -> Response:
    """The framework's own 404 and 405, in the interface's shape."""
    assert isinstance(error, HTTPException)
    response = json_response({"error": str(error.detail)}, status=error.status_code)
    response.headers.update(error.headers or {})
    return response


def told(answer: Told) -> Response:
    """As FastAPI has it."""
    status, content = answer
    return json_response(content, status)


def _v1_router(handler: ModelHandler) -> APIRouter:
    """V1, of names that are not served here."""
    router = APIRouter(tags=["V1"])

    @router.get("/")
    async def alive() -> Response:
        """The process answers."""
        return told(rest_info.alive(handler))

    @router.get("/v1/models")
    async def models() -> Response:
        """The models that are served."""
        return told(rest_info.models(handler))

    @router.post("/v1/models/{model}:predict")
    async def predict(model: ModelName) -> Response:
        """Predict instances."""
        raise not_served(handler, model)

    @router.post("/v1/models/{model}:explain")
    async def explain(model: ModelName) -> Response:
        """Predict instances, and explain the predictions."""
        raise not_served(handler, model)

    @router.get("/v1/models/{model}")
    async def model_ready(model: ModelName) -> Response:
        """Whether the model can predict."""
        if model.endswith((":predict", ":explain")):  # a verb, which this route's pattern takes too
            raise HTTPException(405, headers={"Allow": "POST"})
        check_model(handler, model)
        return told(rest_info.v1_ready(handler))

    return router


def _v2_router(handler: ModelHandler) -> APIRouter:
    """V2, of names and versions that are not served here."""
    router = APIRouter(tags=["Open Inference Protocol V2"])

    @router.get("/v2")
    @router.get("/v2/", include_in_schema=False)
    async def server_metadata() -> Response:
        """The server's name, version and extensions."""
        return told(rest_info.server_metadata(handler))

    @router.get("/v2/health/live")
    async def live() -> Response:
        """The process answers."""
        return told(rest_info.live(handler))

    @router.get("/v2/health/ready")
    async def ready() -> Response:
        """Whether the model can infer."""
        return told(rest_info.ready(handler))

    @router.get("/v2/models/{model}")
    @router.get("/v2/models/{model}/versions/{version}")
    async def metadata(model: ModelName, version: Version | None = None) -> Response:
        """What the model takes and gives."""
        check_model(handler, model, version)
        return told(rest_info.metadata(handler))

    @router.get("/v2/models/{model}/ready")
    @router.get("/v2/models/{model}/versions/{version}/ready")
    async def model_ready(model: ModelName, version: Version | None = None) -> Response:
        """Whether the model can infer."""
        check_model(handler, model, version)
        return told(rest_info.model_ready(handler))

    @router.post("/v2/models/{model}/infer")
    @router.post("/v2/models/{model}/versions/{version}/infer")
    async def infer(model: ModelName, version: Version | None = None) -> Response:
        """Infer tensors from tensors."""
        raise not_served(handler, model, version)

    @router.post("/v2/models/{model}/generate", tags=["Generate"])
    @router.post("/v2/models/{model}/versions/{version}/generate", tags=["Generate"])
    async def generate(model: ModelName, version: Version | None = None) -> Response:
        """Generate text from text."""
        raise not_served(handler, model, version)

    @router.post("/v2/models/{model}/generate_stream", tags=["Generate"])
    @router.post("/v2/models/{model}/versions/{version}/generate_stream", tags=["Generate"])
    async def generate_stream(model: ModelName, version: Version | None = None) -> Response:
        """Generate text from text, sent piece by piece as server-sent events."""
        raise not_served(handler, model, version)

    return router
