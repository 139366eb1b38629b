"""The children of a run other than pods, as manifests.

Every one is owned by the run directly, so that garbage collection needs no
chain, and `blockOwnerDeletion` is false, so that a foreground deletion waits
for nobody.
"""

from __future__ import annotations

import base64
import json
from typing import Final

from footplate_contracts.names import (
    API_CA_FILE,
    COORDINATOR_PORT,
    RUN_CONFIG_FILE,
    RUN_UID_LABEL,
    SECRET_CERTIFICATE_KEY,
    SECRET_PRIVATE_KEY_KEY,
    SECRET_TOKEN_KEY,
    WRITTEN_BY_ANNOTATION,
    Role,
    api_ca_name,
    coordinator_service_name,
    secret_name,
)
from footplate_operator.runtime.kinds import (
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    REVISION,
    SERVICE,
    Json,
)
from footplate_operator.trainingrun.edits import Wanted
from footplate_operator.trainingrun.metadata import match_role, metadata
from footplate_operator.trainingrun.observed import Api, Credentials
from footplate_operator.trainingrun.revision import Revision
from footplate_operator.trainingrun.run import Run

# As the chart labels its pods.
OPERATOR_LABELS: Final = {
    "app.kubernetes.io/name": "footplate",
    "app.kubernetes.io/component": "operator",
}


def wanted(run: Run, revision: Revision) -> list[Wanted]:
    """Every child of a run that should train, but pods and the Secret, which is not looked at."""
    return [
        Wanted(REVISION, revision.name(run.name), lambda: controller_revision(run, revision)),
        Wanted(CONFIG_MAP, revision.config_map(run.name), lambda: config_map(run, revision)),
        Wanted(SERVICE, coordinator_service_name(run.name), lambda: service(run)),
        Wanted(DISRUPTION_BUDGET, run.name, lambda: disruption_budget(run)),
    ]


def vouching(run: Run, api: Api) -> list[Wanted]:
    """The child that tells its coordinator who vouches for the API; none while nobody is known."""
    bundle = api.bundle
    if not api.vouched or not bundle:
        return []
    return [Wanted(CONFIG_MAP, api_ca_name(run.name), lambda: api_ca(run, bundle))]


def guarding(run: Run, revision: Revision, home: str) -> list[Wanted]:
    """The child that says who reaches its pods; none of a run that was admitted without."""
    if not revision.frozen.defaults.network_policy or not home:
        return []
    return [Wanted(NETWORK_POLICY, run.name, lambda: network_policy(run, home))]


def secret(run: Run, credentials: Credentials) -> Json:
    """The Secret with the run's token and TLS key; immutable, as agents read it once."""
    data = {
        SECRET_TOKEN_KEY: credentials.token.encode(),
        SECRET_CERTIFICATE_KEY: credentials.certificate,
        SECRET_PRIVATE_KEY_KEY: credentials.private_key,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(run, secret_name(run.name)),
        "type": "Opaque",
        "immutable": True,
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


def read_secret(body: Json) -> Credentials:
    """The inverse of `secret`; raises KeyError where somebody emptied it, else ValueError."""
    data = {key: base64.b64decode(value) for key, value in (body.get("data") or {}).items()}
    return Credentials(
        token=data[SECRET_TOKEN_KEY].decode(),
        certificate=data[SECRET_CERTIFICATE_KEY],
        private_key=data[SECRET_PRIVATE_KEY_KEY],
    )


def config_map(run: Run, revision: Revision) -> Json:
    """The ConfigMap with the RunConfig; another content has another name."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(run, revision.config_map(run.name)),
        "immutable": True,
        "data": {RUN_CONFIG_FILE: json.dumps(revision.config, indent=1, sort_keys=True)},
    }


def api_ca(run: Run, bundle: str) -> Json:
    """The ConfigMap with the certificates that vouch for the API, which its coordinator mounts."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(run, api_ca_name(run.name)),
        "data": {API_CA_FILE: bundle},
    }


def service(run: Run) -> Json:
    """The headless Service in front of the coordinator.

    Not-ready addresses are published: an agent that waits for the coordinator
    learns more from a refused connection than from a missing name.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(run, coordinator_service_name(run.name)),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": match_role(run.uid, Role.COORDINATOR),
            "ports": [{"name": "https", "port": COORDINATOR_PORT, "targetPort": COORDINATOR_PORT}],
        },
    }


def disruption_budget(run: Run) -> Json:
    """One worker after the other may be evicted: all save before it ends, which the next one waits for.

    `maxUnavailable` asks the run's scale subresource how many there should be,
    which counts workers only; so only workers are selected.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(run, run.name),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": match_role(run.uid, Role.WORKER)},
        },
    }


def network_policy(run: Run, home: str) -> Json:
    """Who reaches the pods of a run: they themselves, and the operator, in namespace `home`, its coordinator.

    Where they go to is not said: their storage and the API are, and whatever their code needs.
    """
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": home}},
        "podSelector": {"matchLabels": dict(OPERATOR_LABELS)},
    }
    own = {"matchLabels": {RUN_UID_LABEL: run.uid}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(run, run.name),
        "spec": {
            "podSelector": own,
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [{"podSelector": own}]},
                {"from": [operator], "ports": [{"protocol": "TCP", "port": COORDINATOR_PORT}]},
            ],
        },
    }


def controller_revision(run: Run, revision: Revision) -> Json:
    """The ControllerRevision that keeps `revision`."""
    body = metadata(run, revision.name(run.name))
    body["annotations"] = {WRITTEN_BY_ANNOTATION: revision.written_by}
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": body,
        "revision": revision.number,
        "data": revision.written or revision.frozen.to_json(),
    }
