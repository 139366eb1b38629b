"""The agent's configuration, read from environment variables.

Read by hand, where the other programs use pydantic-settings: an agent registers before it imports torch, and
that library, which brings asyncio and a command line along, takes 20 to 45 ms more, a tenth of what comes
before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from footplate_contracts.logs import format_of
from footplate_contracts.names import COORDINATOR_PORT, Env, LogFormat
from footplate_contracts.rendezvous import AgentIdentity
from footplate_elastic.agent.client import Endpoint
from footplate_elastic.agent.devices import VISIBLE_DEVICES
from footplate_elastic.protocol.outline import (
    RunOutline,
    existing_file,
    read_outline,
    read_token,
    run_config_path,
    whole_number,
)


@dataclass(frozen=True)
class AgentConfig:
    """This agent's identity and its coordinator's endpoint."""

    identity: AgentIdentity
    endpoint: Endpoint
    outline: RunOutline
    log_format: LogFormat
    visible_devices: str = ""  # as the device plugin names them
    rdma: str = ""  # extended resource of the RDMA devices; empty where the profile requests none


def from_environment(environment: Mapping[str, str]) -> AgentConfig:
    """Return the configuration; raises ValueError for invalid settings."""
    outline = read_outline(run_config_path(environment))
    host = environment.get(Env.COORDINATOR_HOST, "")
    hint = environment.get(Env.COORDINATOR_ADDRESS, "")
    if not host and not hint:
        raise ValueError(f"{Env.COORDINATOR_HOST} is not set; set it to the coordinator's DNS name")
    index = whole_number(environment, Env.WORKER_INDEX, 0)
    incarnation = whole_number(environment, Env.WORKER_INCARNATION, 0)
    identity = AgentIdentity(
        index=index,
        incarnation=incarnation,
        pod_name=environment.get(Env.POD_NAME) or f"{outline.run.name}-w{index}-{incarnation}",
        pod_uid=environment.get(Env.POD_UID, ""),
        node_name=environment.get(Env.NODE_NAME, ""),
        address=environment.get(Env.POD_IP) or "127.0.0.1",
        local_world_size=outline.world.processes_per_node,
    )
    endpoint = Endpoint(
        host=host,
        hint=hint,
        port=whole_number(environment, Env.COORDINATOR_PORT, COORDINATOR_PORT),
        token=read_token(environment),
        certificate=existing_file(environment, Env.TLS_CERTIFICATE_FILE),
    )
    visible = environment.get(VISIBLE_DEVICES, "")
    requested = environment.get(Env.RDMA, "")
    return AgentConfig(identity, endpoint, outline, format_of(environment), visible, requested)
