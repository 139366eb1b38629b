"""The only Kubernetes client: a handful of verbs on plain JSON.

The generated client has a class for every field of Kubernetes and would cost more memory than all runs
together; only its transport and login are used here. Errors become types, since callers decide by the kind of
error.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, Protocol
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from footplate_contracts.names import FIELD_MANAGER
from footplate_operator.errors import (
    AlreadyExists,
    ClusterError,
    Conflict,
    NotFound,
    ObjectInvalid,
    RequestForbidden,
)
from footplate_operator.runtime.kinds import Json, Kind

# With a parameter, so that the transport sends the bytes as they are.
APPLY_PATCH: Final = "application/apply-patch+yaml; charset=utf-8"
MERGE_PATCH: Final = "application/merge-patch+json"
REQUEST_SECONDS: Final = 30.0
# With TLS each takes a quarter of a megabyte; calls that hang, as a webhook may have them, take one each.
MOST_CONNECTIONS: Final = 200
PAGE: Final = 500
_NOT_IN_YAML: Final = re.compile("[\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_log = logging.getLogger(__name__)

Login = Configuration  # who we are, and where the API server is


class Cluster(Protocol):
    """The operator's interface to Kubernetes. Every method may raise ClusterError."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Json:
        """Return the object; raises NotFound."""

    async def find(self, kind: Kind, namespace: str, labels: str = "", fields: str = "") -> list[Json]:
        """Return all objects that match the selectors; an empty namespace means all."""

    def pages(
        self, kind: Kind, namespace: str, labels: str = "", fields: str = "", size: int = PAGE
    ) -> AsyncIterator[list[Json]]:
        """Yield the objects of `find` in pages of at most `size`; the next is requested on demand."""

    async def create(self, kind: Kind, body: Json) -> Json:
        """Create the object and return it; raises AlreadyExists, Invalid."""

    async def would_create(self, kind: Kind, body: Json, *, strict: bool = True) -> None:
        """Dry-run `create` with all its checks; raises as that does.

        `strict`: also for unknown fields.
        """

    async def apply(self, kind: Kind, body: Json, subresource: str = "") -> Json:
        """Apply server-side, with force; return the object."""

    async def replace(self, kind: Kind, body: Json) -> Json:
        """Replace with `body`; raises Conflict where its resourceVersion is not the newest."""

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Json) -> Json:
        """Apply a JSON merge patch; return the object."""

    async def delete(
        self, kind: Kind, namespace: str, name: str, uid: str = "", grace: int | None = None
    ) -> None:
        """Delete the object with this uid; one that is gone, or another object, is no error."""

    async def delete_all(self, kind: Kind, namespace: str, labels: str, grace: int | None = None) -> None:
        """Delete all objects that match, with one request."""


class KubernetesCluster:
    """Client of an API server; `counted` receives each answer's method and status, 0 without one."""

    def __init__(
        self, configuration: Configuration, counted: Callable[[str, int], None] = lambda method, status: None
    ) -> None:
        self._counted = counted
        configuration.connection_pool_maxsize = MOST_CONNECTIONS
        self._client = ApiClient(configuration)
        self._client.user_agent = "footplate-operator"

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()  # type: ignore[no-untyped-call]  # the client has no annotations

    async def list_served_kinds(self, api_version: str) -> frozenset[str]:
        """Return the plural names of the kinds served in that version; empty: none yet."""
        try:
            found = await self._request("GET", f"/apis/{api_version}")
        except NotFound:
            return frozenset()
        return frozenset(item["name"] for item in found.get("resources", ()))

    async def get(self, kind: Kind, namespace: str, name: str) -> Json:
        return await self._request("GET", kind.path(namespace, name))

    async def find(self, kind: Kind, namespace: str, labels: str = "", fields: str = "") -> list[Json]:
        return [body async for page in self.pages(kind, namespace, labels, fields) for body in page]

    async def pages(
        self, kind: Kind, namespace: str, labels: str = "", fields: str = "", size: int = PAGE
    ) -> AsyncIterator[list[Json]]:
        query = {"limit": str(size)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        while True:
            page = await self._request("GET", kind.path(namespace), query)
            yield page.pop("items", [])  # which is nobody's here while the next is read
            more = page.get("metadata", {}).get("continue", "")
            if not more:
                return
            query["continue"] = more

    async def create(self, kind: Kind, body: Json) -> Json:
        namespace = body["metadata"].get("namespace", "")
        query = {"fieldManager": FIELD_MANAGER}
        return await self._request("POST", kind.path(namespace), query, body, exists=True)

    async def would_create(self, kind: Kind, body: Json, *, strict: bool = True) -> None:
        query = {"fieldManager": FIELD_MANAGER, "dryRun": "All"}
        if strict:
            query["fieldValidation"] = "Strict"
        path = kind.path(body["metadata"].get("namespace", ""))
        await self._request("POST", path, query, body, exists=True)

    async def apply(self, kind: Kind, body: Json, subresource: str = "") -> Json:
        metadata = body["metadata"]
        path = kind.path(metadata.get("namespace", ""), metadata["name"], subresource)
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._request("PATCH", path, query, as_yaml(body), content=APPLY_PATCH)

    async def replace(self, kind: Kind, body: Json) -> Json:
        metadata = body["metadata"]
        path = kind.path(metadata.get("namespace", ""), metadata["name"])
        return await self._request("PUT", path, {"fieldManager": FIELD_MANAGER}, body)

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Json) -> Json:
        query = {"fieldManager": FIELD_MANAGER}
        return await self._request("PATCH", kind.path(namespace, name), query, patch, content=MERGE_PATCH)

    async def delete(
        self, kind: Kind, namespace: str, name: str, uid: str = "", grace: int | None = None
    ) -> None:
        options = _delete_options(grace)
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            await self._request("DELETE", kind.path(namespace, name), body=options)
        except NotFound:
            return
        except Conflict as error:
            _log.debug("%s %s/%s was replaced meanwhile: %s", kind.name, namespace, name, error)

    async def delete_all(self, kind: Kind, namespace: str, labels: str, grace: int | None = None) -> None:
        query = {"labelSelector": labels}
        await self._request("DELETE", kind.path(namespace), query, _delete_options(grace))

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Json | bytes | None = None,
        content: str = "application/json",
        exists: bool = False,
    ) -> Json:
        suffix = f"?{urlencode(query)}" if query else ""
        try:
            verb, url, headers, sent, _ = await self._client.param_serialize(
                method,
                path + suffix,
                header_params={"Accept": "application/json", "Content-Type": content},
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._client.call_api(
                verb, url, headers, body=sent, _request_timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS)
            )
            text = await response.read()  # type: ignore[no-untyped-call]  # as above
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._counted(method, 0)
            raise ClusterError(f"{method} {path}: {type(error).__name__}: {error}") from error
        self._counted(method, response.status)
        if response.status >= 400:
            refused = _error(method, path, response.status, text, exists)
            refused.retry_after = _retry_after(response.headers.get("Retry-After"))
            raise refused
        found: Json = json.loads(text) if text else {}
        return found


def as_yaml(body: Json) -> bytes:
    """Return `body` as JSON that a YAML parser reads as well, in UTF-8.

    Server-side apply takes YAML only, and YAML knows no surrogate pairs, breaks lines at characters that JSON
    does not, and refuses others unless escaped. Messages come from users' programs and hold all of them.
    """
    text = json.dumps(body, ensure_ascii=False)
    return _NOT_IN_YAML.sub(_escaped, text).encode()


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return "\\ufffd" if 0xD800 <= code <= 0xDFFF else f"\\u{code:04x}"


def _delete_options(grace: int | None) -> Json:
    options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    if grace is not None:
        options["gracePeriodSeconds"] = grace
    return options


def _error(method: str, path: str, status: int, text: bytes, exists: bool) -> ClusterError:
    try:
        told = json.loads(text)
        message, reason = str(told.get("message", "")), str(told.get("reason", ""))
    except (ValueError, AttributeError):
        message, reason = text[:300].decode(errors="replace"), ""
    message = message or f"{method} {path}: HTTP {status}"
    if status == 409:
        return (AlreadyExists if exists and reason == "AlreadyExists" else Conflict)(message, status, reason)
    types = {400: ObjectInvalid, 403: RequestForbidden, 404: NotFound, 422: ObjectInvalid}
    return types.get(status, ClusterError)(message, status, reason)


def _retry_after(said: str | None) -> float:
    """Return the seconds in Retry-After, 0 without; the API server never sends a date."""
    return float(said) if said is not None and said.isdecimal() else 0.0


async def login(kubeconfig: str | None = None) -> Login:
    """Return credentials and server: from the pod's service account, else from a kubeconfig.

    Args:
        kubeconfig: path of the file; default: KUBECONFIG, else the usual place.

    Raises ClusterError where neither exists.
    """
    # Imported here, as support for kubeconfig files is heavy and a pod needs none of it.
    from kubernetes.aio.config import incluster_config
    from kubernetes.aio.config.config_exception import ConfigException

    configuration = Configuration()
    try:
        incluster_config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]  # as above
    except ConfigException:
        await _login_with_file(configuration, kubeconfig)
    return configuration


async def _login_with_file(configuration: Configuration, kubeconfig: str | None) -> None:
    from kubernetes.aio.config import kube_config
    from kubernetes.aio.config.config_exception import ConfigException

    try:
        await kube_config.load_kube_config(kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        raise ClusterError(f"neither a service account nor a kubeconfig: {error}") from None
