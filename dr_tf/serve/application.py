"""The FastAPI application of the service."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import traceback
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from dr_tf import __version__
from dr_tf.inference.predictor import Predictor
from dr_tf.serve import documentation, openapi
from dr_tf.serve.decider import Decider
from dr_tf.serve.form import read_form
from dr_tf.serve.limits import Admission, Limits
from dr_tf.serve.metrics import CONTENT_TYPE, Metrics
from dr_tf.serve.model_description import describe
from dr_tf.serve.request_error import RequestError

_CLIENT_GONE = 499  # as nginx calls it; nobody receives it, but it is counted
_log = logging.getLogger("dr_tf.serve")


def create_application(predictor: Predictor, model: str | os.PathLike, limits: Limits | None = None) -> FastAPI:
    """Build the application of a model.

    Args:
        predictor: decides.
        model: the folder of the run or the export, for `GET /v1/model`.
        limits: of the service.

    Returns:
        An application for uvicorn or any other ASGI server. One process serves it: the photographs are read in processes of
        their own.
    """
    limits = limits or Limits()
    admission = Admission(limits)
    metrics = Metrics(lambda: admission.requests)
    service = _Service(Decider(predictor, limits, metrics), limits, admission, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.decider.close()

    application = FastAPI(
        title="dr_tf",
        version=__version__,
        description=openapi.description(limits),
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own page loads its scripts from another server
        redoc_url=None,
    )
    _add_decide(application, service)
    _add_pages(application, service, describe(predictor, model))
    return application


def _add_decide(application: FastAPI, service: _Service) -> None:
    @application.post(
        "/v1/decide",
        openapi_extra=openapi.decide_extra(),
        responses=openapi.decide_responses(),
        response_class=JSONResponse,
    )
    async def decide(request: Request) -> Response:
        """Decide on one photograph, or on both eyes of a patient."""
        return await service.respond(request)

    @application.exception_handler(HTTPException)
    async def explain(_: Request, error: HTTPException) -> Response:
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


def _add_pages(application: FastAPI, service: _Service, model: dict[str, Any]) -> None:
    @application.get("/v1/model")
    async def describe_model() -> dict[str, Any]:
        """Describe the model: what positive means, the operating points, on whom it was tested, the versions."""
        return model

    @application.get("/health")
    async def health() -> Response:
        """Tell whether a request would be accepted now: the status is 200 if so and 503 if not."""
        ready = service.admission.has_room
        return JSONResponse({"live": True, "ready": ready}, 200 if ready else 503)

    @application.get("/health/live")
    async def live() -> dict[str, bool]:
        """Tell that the service runs, however busy it is."""
        return {"live": True}

    @application.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Return the counters for Prometheus."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    @application.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(documentation.page(application.openapi()), headers=documentation.HEADERS)


class _Service:
    """Answers requests, whatever happens, with JSON."""

    def __init__(self, decider: Decider, limits: Limits, admission: Admission, metrics: Metrics):
        self.decider, self.limits, self.admission, self.metrics = decider, limits, admission, metrics

    async def respond(self, request: Request) -> Response:
        started = time.perf_counter()
        try:
            response = JSONResponse(await self._answer(request))
        except RequestError as problem:
            response = JSONResponse({"detail": problem.detail}, problem.status, problem.headers)
        except ClientDisconnect:
            response = JSONResponse({"detail": "the client is gone"}, _CLIENT_GONE)
        except Exception as error:
            # Not the message: it may quote what was sent.
            _log.error("%s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
            response = JSONResponse({"detail": openapi.PROBLEMS[500]}, 500)
        self.metrics.request(response.status_code, time.perf_counter() - started)
        return response

    async def _answer(self, request: Request) -> dict[str, Any]:
        deadline = asyncio.get_running_loop().time() + self.limits.seconds
        with self.admission.place(_content_length(request)):
            with _within(deadline, 408):
                async with asyncio.timeout_at(deadline):
                    form = await read_form(request.headers, request.stream(), self.limits)
            with _within(deadline, 504):
                async with asyncio.timeout_at(deadline):
                    return await _unless_gone(request, self.decider.answer(form))


def _content_length(request: Request) -> int | None:
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None


@contextlib.contextmanager
def _within(deadline, status):
    try:
        yield
    except TimeoutError:
        if asyncio.get_running_loop().time() < deadline:
            raise  # another one than the deadline's
        raise RequestError(status, openapi.PROBLEMS[status]) from None


async def _unless_gone(request: Request, answering: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Return the answer, and stop the work for it as soon as the client is gone."""
    answer, gone = asyncio.ensure_future(answering), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # else asyncio may log what it says
