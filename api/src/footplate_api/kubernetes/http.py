"""The API's only Kubernetes client: of runs, their namespaces, and the objects that costs depend on.

The client's package is large: this module imports only its transport and login, as one import of a typed API
costs up to 90 MB of resident memory (CoreV1Api; the one of custom objects 2 MB). It parses watches itself,
because the package's own watch hides when a version has expired and yields one event at a time.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast
from urllib.parse import quote

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.incluster_config import load_incluster_config
from kubernetes.aio.config.kube_config import load_kube_config

from footplate_api.errors import (
    ClusterRefused,
    ClusterUnavailable,
    FieldError,
    InstallationLacksRights,
    ListExpired,
)
from footplate_api.kubernetes.client import EventType, ListPage, Manifest, Resource, WatchEvent, if_found
from footplate_contracts.names import GROUP, VERSION

PLURAL: Final = "trainingruns"
FIELD_MANAGER: Final = "footplate-api"
NAMESPACES: Final = "/api/v1/namespaces"
JSON: Final = "application/json"
METADATA: Final = f"{JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST: Final = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PAGE: Final = 500  # objects a list request
RECORDS_A_PAGE: Final = 100  # of usage: one may have a hundred kilobytes
REQUEST_SECONDS: Final = 15.0
# Short watches: a connection that died silently is noticed after one of them.
WATCH_SECONDS: Final = 60
_UNAUTHORIZED, _FORBIDDEN, _GONE = 401, 403, 410
_CREATING: Final = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
# What an authorizer says of an account, as k8s.io/apiserver's responsewriters word it.
_LACKING: Final = re.compile(
    r'is forbidden: User "[^"]*" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"'
    r'(?: in API group "(?P<group>[^"]*)")?(?: in the namespace "(?P<namespace>[^"]*)")?'
)
# What admission says of a request: a webhook; a ValidatingAdmissionPolicy, a quota, a namespace that ends.
_WEBHOOK: Final = "denied the request"
_ADMISSION: Final = re.compile(r'is forbidden: (?!User ")')
_DECODED_AT_ONCE: Final = 64 * 1024  # bytes of a watch; more would hold the event loop up


async def connect(kubeconfig: Path | None, in_pod: bool) -> HttpKubernetesClient:
    """Return a client for `kubeconfig`, else for the pod's own cluster, else for kubectl's.

    Raises ValueError where none of these exists.
    """
    configuration = Configuration()
    # The client would take the variables of a proxy, which is the issuer's; a kubeconfig has `proxy-url`.
    configuration.client_session_kwargs = {"trust_env": False}
    try:
        await _configure(configuration, kubeconfig, in_pod)
    except ConfigException as error:
        raise ValueError(
            f"no Kubernetes API server is configured ({error}): pass --kubeconfig, set KUBECONFIG to a"
            " kubeconfig file, or run in a pod that has a service account token"
        ) from error
    return HttpKubernetesClient(ApiClient(configuration))


async def _configure(configuration: Configuration, kubeconfig: Path | None, in_pod: bool) -> None:
    if in_pod and kubeconfig is None:
        load_incluster_config(configuration)  # type: ignore[no-untyped-call]  # has no annotations
    else:
        path = None if kubeconfig is None else str(kubeconfig)
        await load_kube_config(  # type: ignore[no-untyped-call]  # has no annotations
            config_file=path, client_configuration=configuration, persist_config=False
        )


class HttpKubernetesClient:
    """Implementation of `ports.Cluster` over HTTP, limited to `namespace` if that is given."""

    def __init__(self, client: ApiClient, namespace: str = "") -> None:
        self._client = client
        self._namespace = namespace
        # Whoever may read some namespaces by their names may list them by the same.
        self._named = {"fieldSelector": f"metadata.name={namespace}"} if namespace else {}

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()  # type: ignore[no-untyped-call]  # has no annotations

    def in_namespace(self, namespace: str) -> HttpKubernetesClient:
        return HttpKubernetesClient(self._client, namespace)

    async def get_cluster_uid(self) -> str:
        found = await self._ask("GET", f"{NAMESPACES}/kube-system", {}, accept=METADATA)
        return str(found["metadata"]["uid"])

    async def create_run(self, namespace: str, manifest: Manifest) -> Manifest:
        created: Manifest = await self._ask("POST", _path(namespace), _CREATING, dict(manifest))
        return created

    async def try_run(self, namespace: str, manifest: Manifest) -> Manifest:
        query = {**_CREATING, "dryRun": "All"}
        made: Manifest = await self._ask("POST", _path(namespace), query, dict(manifest))
        return made

    async def get_run(self, namespace: str, name: str) -> Manifest:
        found: Manifest = await self._ask("GET", f"{_path(namespace)}/{quote(name, safe='')}", {})
        return found

    async def get_profile(self, name: str) -> Manifest | None:
        return await if_found(self._ask("GET", _of(Resource.PROFILES, name), {}))

    async def delete_run(self, namespace: str, name: str, uid: str | None) -> str:
        options = {} if uid is None else {"preconditions": {"uid": uid}}
        answer = await self._ask("DELETE", f"{_path(namespace)}/{quote(name, safe='')}", {}, options)
        # The object where something still holds it, such as a finalizer; else a Status that tells of it.
        about = answer.get("details") if answer.get("kind") == "Status" else answer.get("metadata")
        return str((about or {}).get("uid") or "")

    async def list_runs(self, token: str | None) -> ListPage:
        return await self._list(_path(self._namespace), JSON, token)

    async def list_versions(self, token: str | None) -> ListPage:
        return await self._list(_path(self._namespace), METADATA_LIST, token)

    def watch_runs(self, resource_version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        return self._watch(_path(self._namespace), JSON, resource_version)

    async def list_namespaces(self, token: str | None) -> ListPage:
        return await self._list(NAMESPACES, METADATA_LIST, token, more=self._named)

    def watch_namespaces(self, resource_version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        return self._watch(NAMESPACES, METADATA, resource_version, self._named)

    async def create_price(self, manifest: Manifest, dry_run: bool = False) -> Manifest:
        query = {**_CREATING, **({"dryRun": "All"} if dry_run else {})}
        created: Manifest = await self._ask("POST", _of(Resource.PRICES), query, dict(manifest))
        return created

    async def get_price(self, name: str) -> Manifest:
        found: Manifest = await self._ask("GET", _of(Resource.PRICES, name), {})
        return found

    async def delete_record(self, name: str, uid: str, resource_version: str) -> None:
        options = {"preconditions": {"uid": uid, "resourceVersion": resource_version}}
        await self._ask("DELETE", _of(Resource.USAGE, name), {}, options)

    async def list_objects(self, resource: Resource, token: str | None) -> ListPage:
        limit = RECORDS_A_PAGE if resource is Resource.USAGE else PAGE
        return await self._list(_of(resource), JSON, token, limit)

    def watch_objects(self, resource: Resource, resource_version: str) -> AsyncIterator[Sequence[WatchEvent]]:
        return self._watch(_of(resource), JSON, resource_version)

    async def review(self, path: str, manifest: Manifest) -> Manifest:
        """Create a review object of Kubernetes, which is not stored; return it with its status."""
        reviewed: Manifest = await self._ask("POST", path, {}, dict(manifest))
        return reviewed

    async def _list(
        self,
        path: str,
        accept: str,
        token: str | None,
        limit: int = PAGE,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> ListPage:
        query = {"limit": str(limit), **({"continue": token} if token else {}), **more}
        page = await self._ask("GET", path, query, accept=accept)
        metadata = page["metadata"]
        found = page["items"] or []  # of metadata an empty list is null
        return ListPage(found, metadata["resourceVersion"], metadata.get("continue") or None)

    async def _watch(
        self,
        path: str,
        accept: str,
        resource_version: str,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> AsyncIterator[Sequence[WatchEvent]]:
        query = {
            **more,
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        with _translated():
            seconds = WATCH_SECONDS + REQUEST_SECONDS
            response = await self._request("GET", path, query, accept=accept, seconds=seconds)
            try:
                if response.status != 200:
                    raise refusal(response.status, await response.text())
                async for group in events(response.content.iter_any()):
                    yield group
            finally:
                response.close()

    async def _ask(
        self, method: str, path: str, query: Mapping[str, str], body: Any = None, accept: str = JSON
    ) -> Any:
        """Send a request; return the JSON of the response, or raise the error that its status means."""
        with _translated():
            response = await self._request(method, path, query, body, accept)
            answer = await response.read()
        if not response.ok:
            raise refusal(response.status, answer.decode("utf-8", "replace") or response.reason or "")
        return await asyncio.to_thread(json.loads, answer)  # a page of runs is megabytes

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any = None,
        accept: str = JSON,
        seconds: float = REQUEST_SECONDS,
    ) -> aiohttp.ClientResponse:
        verb, url, headers, sent, _ = await self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Accept": accept, "Content-Type": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        timeout = aiohttp.ClientTimeout(total=seconds)
        answer = await self._client.call_api(verb, url, headers, body=sent, _request_timeout=timeout)
        return cast(aiohttp.ClientResponse, answer.response)


def _path(namespace: str = "") -> str:
    """Return the URL path of the runs in a namespace, or in all."""
    place = f"namespaces/{quote(namespace, safe='')}/" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}/{place}{PLURAL}"


def _of(resource: Resource, name: str = "") -> str:
    """Return the URL path of a cluster-scoped kind's objects, or of the object `name`."""
    return f"/apis/{GROUP}/{VERSION}/{resource}{'/' if name else ''}{quote(name, safe='')}"


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[Sequence[WatchEvent]]:
    """Yield the watch events in `chunks`, grouped as they arrived."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        complete = [line for line in lines if line.strip()]
        if sum(map(len, complete)) < _DECODED_AT_ONCE:
            group = _decoded(complete)
        else:
            group = await asyncio.to_thread(_decoded, complete)
        if group:
            yield group


def _decoded(lines: Sequence[bytes]) -> list[WatchEvent]:
    return [decode(line) for line in lines]


def decode(line: bytes) -> WatchEvent:
    """Parse one line of a watch; raises ListExpired or ApiError for the server's ERROR event."""
    event = json.loads(line)
    if event["type"] == "ERROR":
        status = event["object"]
        raise refusal(status.get("code", 500), json.dumps(status))
    return WatchEvent(EventType(event["type"]), event["object"])


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        name = type(error).__name__
        raise ClusterUnavailable(f"The Kubernetes API server does not answer ({name}).") from error


def refusal(status: int, body: str) -> Exception:
    """Return the error for a failed response, whose body is a `Status` object or any other text."""
    said = _status_object(body)
    message = str(said.get("message") or body[:1024] or f"status {status}")
    if not 400 <= status < 500:
        return ClusterUnavailable(f"The Kubernetes API server answered {status}: {message}")
    if _WEBHOOK in message:  # which may have chosen any status
        return _refused(said, message, status if status in ClusterRefused.statuses else _FORBIDDEN)
    if status == _GONE:
        return ListExpired(message)
    if status == _UNAUTHORIZED:
        return InstallationLacksRights(
            "The Kubernetes API server does not accept the credentials of this installation of Footplate."
        )
    if status == _FORBIDDEN and not _ADMISSION.search(str(said.get("message", ""))):
        return InstallationLacksRights(_lacks(message))
    if status not in ClusterRefused.statuses:  # of our pace, or how we ask, not of what the caller wants
        return ClusterUnavailable(f"The Kubernetes API server answered {status}: {message}")
    return _refused(said, message, status)


def _refused(said: Mapping[str, Any], message: str, status: int) -> ClusterRefused:
    causes = (said.get("details") or {}).get("causes") or []
    fields = [
        FieldError(str(cause.get("field", "")).removeprefix("."), None, cause.get("message", ""))
        for cause in causes
    ]
    return ClusterRefused(message, fields, status)


def _lacks(message: str) -> str:
    """Return a sentence on the right that the API's role lacks, without the name of its account."""
    found = _LACKING.search(message)
    if found is None:
        return "The ClusterRole of this installation of Footplate does not allow its request to Kubernetes."
    resource = f"{found['resource']}.{found['group']}" if found["group"] else found["resource"]
    place = "the whole cluster" if found["namespace"] is None else f'the namespace "{found["namespace"]}"'
    return (
        f"This installation of Footplate may not {found['verb']} {resource} in {place}:"
        f" the ClusterRole of its API lacks the verb {found['verb']} on {resource}, or is not bound."
    )


def _status_object(body: str) -> Mapping[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
