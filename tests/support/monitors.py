"""What the Prometheus operator makes of a ServiceMonitor, for one pod at an address of this machine.

Its relabelling is what takes a run's `namespace` away where a monitor does not honour labels, so it stands
here as that operator writes it; the discovery of pods is replaced by a target with the labels of one. The
Prometheus operator itself does not run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Json = dict[str, Any]
_FOUND = "__meta_kubernetes_"


def scrape_config(
    monitor: Json, service: Json, address: str, authorities: Mapping[str, str], token: str, folder: Path
) -> Json:
    """The scrape configuration of the monitor's one endpoint, for a pod behind `service`.

    Args:
        address: host and port where that pod answers.
        authorities: what ConfigMaps hold under the key that the monitor names, by their name.
        token: of Prometheus' own service account, or in the Secret that the monitor names.
        folder: where files for it go.
    """
    [endpoint] = monitor["spec"]["endpoints"]
    about = service["metadata"]
    name = f"{monitor['metadata']['namespace']}-{monitor['metadata']['name']}"
    found = {
        "namespace": about["namespace"],
        "service_name": about["name"],
        "endpoint_port_name": endpoint["port"],
        "pod_name": f"{about['name']}-0",
        "pod_container_name": about["labels"]["app.kubernetes.io/component"],
    }
    config: Json = {
        "job_name": f"serviceMonitor/{name}/0",
        "honor_labels": endpoint.get("honorLabels", False),
        "metrics_path": endpoint.get("path", "/metrics"),
        "scheme": endpoint.get("scheme", "http"),
        "static_configs": [
            {"targets": [address], "labels": {_FOUND + label: value for label, value in found.items()}}
        ],
        "relabel_configs": [
            _renamed("namespace", "namespace"),
            _renamed("service_name", "service"),
            _renamed("pod_name", "pod"),
            _renamed("pod_container_name", "container"),
            _renamed("service_name", "job"),
            {"target_label": "endpoint", "replacement": endpoint["port"]},
        ],
    }
    if "tlsConfig" in endpoint:
        authority = folder / f"{name}.crt"
        authority.write_text(authorities[endpoint["tlsConfig"]["ca"]["configMap"]["name"]])
        config["tls_config"] = {
            "server_name": endpoint["tlsConfig"]["serverName"],
            "ca_file": str(authority),
        }
    if "bearerTokenFile" in endpoint or "authorization" in endpoint:
        shown = folder / f"{name}.token"
        shown.write_text(token)
        config["authorization"] = {"type": "Bearer", "credentials_file": str(shown)}
    return config


def _renamed(found: str, label: str) -> Json:
    return {"source_labels": [_FOUND + found], "target_label": label}
