"""The HTTP management API of Durable Functions, as a function from requests to answers.

Routes are in `routes`, what opens them in `keys`, lenient parsing in `query`. Entity routes answer 404.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from durable_ext.client.history_view import show_history
from durable_ext.client.links import ManagementLinks, forwarded_origin, with_origin
from durable_ext.client.operations import InstanceOperations
from durable_ext.client.status import json_or_text
from durable_ext.codec import Codec
from durable_ext.errors import (
    CodecError,
    FunctionNotFoundError,
    InstanceAlreadyExistsError,
    InstanceNotFoundError,
    InstanceStateError,
    InvalidInstanceIdError,
)
from durable_ext.history import OrchestrationRuntimeStatus as Status
from durable_ext.history import encode_events
from durable_ext.http import query
from durable_ext.http.bodies import error, status_body
from durable_ext.http.keys import DevelopmentKeys, Keys
from durable_ext.http.messages import Request, Response, json_bytes_response, json_response
from durable_ext.http.routes import Scope, match
from durable_ext.storage.contract import InstanceQuery, InstanceRecord

logger = logging.getLogger(__name__)

CONTINUATION = "x-ms-continuation-token"
DEFAULT_PAGE, LARGEST_PAGE = 100, 1000

Parameters = dict[str, str]
Operation = Callable[[Request, Parameters], Awaitable[Response]]


class _BadRequestError(Exception):
    """The request itself is wrong; the answer says how."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class ManagementApi:
    """Answers management requests for one task hub.

    URLs in answers begin as the request did, so that they work for its sender; `use_forwarded_host` believes the
    `X-Forwarded-Host` and `X-Forwarded-Proto` headers of a proxy instead. Set it only behind one.
    """

    def __init__(
        self,
        operations: InstanceOperations,
        *,
        codec: Codec,
        hub_name: str,
        keys: Keys | None = None,
        connection_name: str = "Storage",
        use_forwarded_host: bool = False,
    ) -> None:
        self._instances, self._codec, self._hub_name = operations, codec, hub_name
        self._keys: Keys = DevelopmentKeys() if keys is None else keys
        self._links = ManagementLinks(hub_name=hub_name, connection_name=connection_name, code_for=self._keys.code_for)
        self._use_forwarded_host = use_forwarded_host
        self._operations: dict[str, Operation] = {
            "start": self._start,
            "status": self._status,
            "history": self._history,
            "list_instances": self._list_instances,
            "dead_letters": self._dead_letters,
            "purge": self._purge,
            "purge_many": self._purge_many,
            "raise_event": self._raise_event,
            "terminate": self._terminate,
            "suspend": self._suspend,
            "resume": self._resume,
            "rewind": self._rewind,
            "restart": self._restart,
            "make_primary": self._make_primary,
        }

    async def handle(self, request: Request) -> Response:
        """Answer a request. Never raises but for cancellation: what goes wrong is a 500, and logged."""
        found = match(request.method, request.path)
        if found is None:
            return Response(status=404)
        route, parameters = found
        if not self._admitted(request, parameters["instance_id"] if route.scope is Scope.INSTANCE else None):
            return Response(status=401)
        hub = query.text(request, "taskHub")
        if hub is not None and hub.casefold() != self._hub_name.casefold():
            return error(400, f"This app serves the task hub '{self._hub_name}', not '{hub}'.")
        try:
            return await self._operations[route.operation](request, parameters)
        except _BadRequestError as err:
            return err.response
        except InstanceNotFoundError:
            return Response(status=404)
        except InstanceStateError:
            return Response(status=410)
        except InstanceAlreadyExistsError as err:
            return error(409, str(err))
        except (FunctionNotFoundError, InvalidInstanceIdError, CodecError) as err:
            return _bad_argument(err)
        except Exception as err:
            logger.exception("%s %s failed", request.method, request.path)
            return error(500, "Something went wrong while processing your request", err)

    def _admitted(self, request: Request, instance_id: str | None) -> bool:
        presented = request.values("code")
        header = request.header("x-functions-key")
        return self._keys.admits(presented if header is None else [*presented, header], instance_id)

    # --- start, restart, wait ----------------------------------------------------------------------------

    async def _start(self, request: Request, parameters: Parameters) -> Response:
        waiting = _waiting(request)
        instance_id = await self._instances.start(
            parameters["name"],
            parameters.get("instance_id"),
            self._codec.encode(_json_body(request) if request.body else None),
            _version(request),
        )
        return await self._started(request, instance_id, waiting)

    async def _restart(self, request: Request, parameters: Parameters) -> Response:
        waiting = _waiting(request)
        new_id = query.flag(request, "restartWithNewInstanceId", True)
        try:
            instance_id = await self._instances.restart(
                parameters["instance_id"], with_new_id=new_id, version=_version(request)
            )
        except InstanceNotFoundError:
            return error(400, "InstanceId does not match a valid orchestration instance.")
        except InstanceAlreadyExistsError:
            return error(409, "A non-terminal instance with this instance ID already exists.")
        return await self._started(request, instance_id, waiting)

    async def _started(self, request: Request, instance_id: str, timeout: float | None) -> Response:
        if timeout is not None:
            try:
                ended = await self._instances.wait_for_end(instance_id, timeout)
            except (TimeoutError, InstanceNotFoundError):
                pass  # still running, or purged meanwhile: answered as if nobody had waited
            else:
                if ended.runtime_status is Status.Completed:
                    return json_response(200, json_or_text(ended.output))
                return await self._described(request, ended)
        payload = self._links.payload(
            instance_id, base_url=self._as_reached(request.base_url, request), fail_with_500=_fails_with_500(request)
        )
        return json_response(202, payload, {"Location": payload["statusQueryGetUri"], "Retry-After": "10"})

    # --- query -------------------------------------------------------------------------------------------

    async def _status(self, request: Request, parameters: Parameters) -> Response:
        with_input = query.flag(request, "showInput", True)
        record = await self._instances.get(parameters["instance_id"], with_input=with_input)
        return Response(status=404) if record is None else await self._described(request, record)

    async def _described(self, request: Request, record: InstanceRecord) -> Response:
        """The status, with what the request wants to see of it."""
        with_input, history = query.flag(request, "showInput", True), None
        if query.flag(request, "showHistory", False):
            events = await self._instances.history_of(record)
            with_results = query.flag(request, "showHistoryOutput", False)
            if events is not None:
                history = show_history(events, with_results=with_results, with_inputs=with_input)
        body = status_body(record, show_input=with_input, history=history)
        if not record.runtime_status.is_terminal:
            asked = self._as_reached(request.url, request)
            return json_response(202, body, {"Location": asked, "Retry-After": "5"})
        failed = record.runtime_status is Status.Failed
        return json_response(500 if failed and _fails_with_500(request) else 200, body)

    async def _history(self, request: Request, parameters: Parameters) -> Response:
        """Every event as it is stored, where `showHistory` leaves out and merges rows."""
        return json_bytes_response(200, encode_events(await self._instances.history(parameters["instance_id"])))

    async def _list_instances(self, request: Request, parameters: Parameters) -> Response:
        statuses = query.statuses(request)
        if statuses is None:
            return json_response(200, [])
        asked = InstanceQuery(
            created_from=query.moment(request, "createdTimeFrom"),
            created_to=query.moment(request, "createdTimeTo"),
            statuses=statuses,
            instance_id_prefix=query.text(request, "instanceIdPrefix"),
            page_size=min(query.positive_int(request, "top", DEFAULT_PAGE), LARGEST_PAGE),
            continuation_token=request.header(CONTINUATION) or None,
            with_payloads=query.flag(request, "showInput", True),
        )
        try:
            page = await self._instances.list_page(asked)
        except ValueError as err:  # a token nobody gave out; without it the caller would get page one for ever
            return _bad_argument(err)
        token = page.continuation_token
        body = [status_body(each, show_input=asked.with_payloads) for each in page.instances]
        return json_response(200, body, {CONTINUATION: token} if token else None)

    async def _dead_letters(self, request: Request, parameters: Parameters) -> Response:
        limit = min(query.positive_int(request, "top", DEFAULT_PAGE), LARGEST_PAGE)
        return json_bytes_response(200, msgspec.json.encode(await self._instances.dead_letters(limit)))

    # --- purge -------------------------------------------------------------------------------------------

    async def _purge(self, request: Request, parameters: Parameters) -> Response:
        try:
            removed = await self._instances.purge(parameters["instance_id"])
        except InstanceStateError as err:
            return json_response(412, str(err))
        return _purged(removed)

    async def _purge_many(self, request: Request, parameters: Parameters) -> Response:
        created_from = query.moment(request, "createdTimeFrom")
        if created_from is None:
            return json_response(400, "Please provide value for 'createdTimeFrom' parameter.")
        try:
            query.strict_moment(request, "createdTimeFrom")  # given twice, it is not clear which one counts
            created_to = query.strict_moment(request, "createdTimeTo")
            statuses, prefix = query.strict_statuses(request), query.strict_prefix(request)
        except ValueError as err:
            return error(400, str(err))
        return _purged(await self._instances.purge_matching(created_from, created_to, statuses, prefix))

    # --- steer -------------------------------------------------------------------------------------------

    async def _raise_event(self, request: Request, parameters: Parameters) -> Response:
        instance_id = parameters["instance_id"]
        record = await self._instances.get(instance_id, with_input=False)
        # A missing or ended instance is reported before whatever is wrong with the body.
        if record is None:
            return Response(status=404)
        if record.runtime_status.is_terminal:
            return Response(status=410)
        media_type = (request.header("content-type") or "").split(";")[0].strip().lower()
        if media_type != "application/json":
            return error(400, "Only application/json request content is supported")
        data = self._codec.encode(_json_body(request))
        await self._instances.raise_event(instance_id, parameters["event_name"], data)
        return Response(status=202)

    async def _terminate(self, request: Request, parameters: Parameters) -> Response:
        await self._instances.terminate(parameters["instance_id"], query.given(request, "reason"))
        return Response(status=202)

    async def _suspend(self, request: Request, parameters: Parameters) -> Response:
        await self._instances.suspend(parameters["instance_id"], query.given(request, "reason"))
        return Response(status=202)

    async def _resume(self, request: Request, parameters: Parameters) -> Response:
        await self._instances.resume(parameters["instance_id"], query.given(request, "reason"))
        return Response(status=202)

    async def _rewind(self, request: Request, parameters: Parameters) -> Response:
        try:
            await self._instances.rewind(parameters["instance_id"], query.given(request, "reason"))
        except InstanceStateError as err:
            if Status[err.status].is_terminal:
                return Response(status=410)
            return json_response(412, str(err))
        return Response(status=202)

    # --- leases --------------------------------------------------------------------------------------------

    async def _make_primary(self, request: Request, parameters: Parameters) -> Response:
        return error(400, "Cannot make current app primary. This app is not using the AppLease feature.")

    # --- URLs --------------------------------------------------------------------------------------------

    def _as_reached(self, url: str, request: Request) -> str:
        """The URL with the origin the sender used, if a proxy that is trusted says it was another one."""
        origin = forwarded_origin(request.headers) if self._use_forwarded_host else None
        return url if origin is None else with_origin(url, origin)


def _fails_with_500(request: Request) -> bool:
    return query.flag(request, "returnInternalServerErrorOnFailure", False)


def _bad_argument(cause: Exception) -> Response:
    return error(400, "One or more of the arguments submitted is incorrect", cause)


def _purged(removed: int) -> Response:
    return json_response(200, {"instancesDeleted": removed}) if removed else Response(status=404)


def _waiting(request: Request) -> float | None:
    """How long the caller wants to wait, or None: it takes a timeout and a polling interval to wait at all."""
    timeout, interval = query.seconds(request, "timeout"), query.seconds(request, "pollingInterval")
    if timeout is None or interval is None:
        return None
    if interval > timeout:
        text = f"Total timeout {timeout:g} should be bigger than retry timeout {interval:g}"
        raise _BadRequestError(error(400, text))
    return timeout


def _version(request: Request) -> str | None:
    """None leaves it to the app, "" is the wish for none."""
    found = query.given(request, "version")
    return None if found is None else found.strip()


def _json_body(request: Request) -> Any:
    try:
        return json.loads(request.body, parse_constant=_not_json)
    except (ValueError, RecursionError) as err:
        raise _BadRequestError(error(400, "Invalid JSON content", err)) from err


def _not_json(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON value")
