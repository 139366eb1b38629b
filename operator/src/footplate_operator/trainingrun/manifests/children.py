"""Manifests of a run's children other than pods.

The run directly owns every one, so that garbage collection needs no
chain, and `blockOwnerDeletion` is false, so that a foreground deletion waits
for no child.
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
from footplate_operator.keys.credentials import RunCredentials
from footplate_operator.runtime.kinds import (
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    REVISION,
    SERVICE,
    Json,
)
from footplate_operator.trainingrun.drift import DesiredChild
from footplate_operator.trainingrun.metadata import match_role, metadata
from footplate_operator.trainingrun.observation import ApiEndpoint
from footplate_operator.trainingrun.revision import Revision
from footplate_operator.trainingrun.run import Run

# As the chart labels its pods.
OPERATOR_LABELS: Final = {
    "app.kubernetes.io/name": "footplate",
    "app.kubernetes.io/component": "operator",
}


def list_desired_children(run: Run, revision: Revision) -> list[DesiredChild]:
    """List the children of a run that should train, except pods and the Secret, which is not read."""
    return [
        DesiredChild(REVISION, revision.name(run.name), lambda: controller_revision(run, revision)),
        DesiredChild(CONFIG_MAP, revision.config_map(run.name), lambda: config_map(run, revision)),
        DesiredChild(SERVICE, coordinator_service_name(run.name), lambda: service(run)),
        DesiredChild(DISRUPTION_BUDGET, run.name, lambda: disruption_budget(run)),
    ]


def build_ca_children(run: Run, api: ApiEndpoint) -> list[DesiredChild]:
    """Return the ConfigMap with the API's CA certificates for the coordinator; empty while there are none."""
    bundle = api.bundle
    if not api.uses_ca_bundle or not bundle:
        return []
    return [DesiredChild(CONFIG_MAP, api_ca_name(run.name), lambda: api_ca(run, bundle))]


def build_policy_children(run: Run, revision: Revision, home: str) -> list[DesiredChild]:
    """Return the NetworkPolicy of the run's pods; empty if the run was admitted without one."""
    if not revision.frozen.defaults.network_policy or not home:
        return []
    return [DesiredChild(NETWORK_POLICY, run.name, lambda: network_policy(run, home))]


def secret(run: Run, credentials: RunCredentials) -> Json:
    """Build the Secret with the run's token and TLS key; immutable, as agents read it once."""
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


def read_secret(body: Json) -> RunCredentials:
    """Decode the Secret that `secret` builds; raise KeyError if a key is missing, else ValueError."""
    data = {key: base64.b64decode(value) for key, value in (body.get("data") or {}).items()}
    return RunCredentials(
        token=data[SECRET_TOKEN_KEY].decode(),
        certificate=data[SECRET_CERTIFICATE_KEY],
        private_key=data[SECRET_PRIVATE_KEY_KEY],
    )


def config_map(run: Run, revision: Revision) -> Json:
    """Build the ConfigMap with the RunConfig; other content gets another name."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(run, revision.config_map(run.name)),
        "immutable": True,
        "data": {RUN_CONFIG_FILE: json.dumps(revision.config, indent=1, sort_keys=True)},
    }


def api_ca(run: Run, bundle: str) -> Json:
    """Build the ConfigMap with the API's CA certificates, which the run's coordinator mounts."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(run, api_ca_name(run.name)),
        "data": {API_CA_FILE: bundle},
    }


def service(run: Run) -> Json:
    """Build the headless Service in front of the coordinator.

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
    """Build the PodDisruptionBudget: one worker at a time may be evicted, and all save before it ends.

    `maxUnavailable` compares with the run's scale subresource,
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
    """Build the NetworkPolicy: the run's pods reach each other; the operator in `home`, the coordinator.

    Egress is unrestricted: pods reach their storage, the API, and whatever their code needs.
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
    """Build the ControllerRevision that stores `revision`."""
    body = metadata(run, revision.name(run.name))
    body["annotations"] = {WRITTEN_BY_ANNOTATION: revision.written_by}
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": body,
        "revision": revision.number,
        "data": revision.written or revision.frozen.to_json(),
    }
