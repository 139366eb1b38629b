"""The coordinator as a process: small, quick, without torch, encrypted, and gone when told."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.names import Cause, Env, ExitCode
from footplate_elastic.agent import timing
from footplate_elastic.agent.client import Connection, CoordinatorAddresses, Endpoint
from footplate_elastic.agent.energy_meter import EnergyMeter
from footplate_elastic.agent.errors import Unreachable
from footplate_elastic.agent.session import Session
from footplate_elastic.protocol import wire
from tests.component.footplate_elastic.agent.gang import TOKEN, Gang
from tests.unit.footplate_elastic.coordinator.story import agent, failure

RESIDENT_MEGABYTES = 60
CONNECTION_KILOBYTES = 120  # of 4,096, which a thousand agents have while they join: 512 MiB hold them
CPU_SECONDS = 1.0  # what a start costs; the wall clock of a shared machine says little


@pytest.fixture
def gang(tmp_path: Path) -> Iterator[Gang]:
    made = Gang(tmp_path)
    yield made
    made.close()


def certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate for `name` in `folder`, and its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.key").write_bytes(private)
    path = folder / f"{name}.crt"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


def endpoint(gang: Gang, host: str = "localhost", hint: str = "", trusted: Path | None = None) -> Endpoint:
    return Endpoint(host=host, hint=hint, port=gang.port, token=TOKEN, certificate=trusted)


def ask(where: Endpoint) -> int:
    """Status of the state, asked until somebody listens; Unreachable after half a minute."""
    connection = Connection(CoordinatorAddresses(where))
    deadline = time.monotonic() + 30.0
    while True:
        try:
            return connection.request("GET", wire.STATE, None, 5.0).status
        except Unreachable as error:
            if "refused" not in str(error).lower() or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_it_starts_quickly_and_stays_small_without_torch(gang: Gang) -> None:
    process = gang.start_coordinator()
    gang.wait_for(lambda state: True)
    assert resident(process.pid) < RESIDENT_MEGABYTES * 1024
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
    assert (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") < CPU_SECONDS
    maps = Path(f"/proc/{process.pid}/maps").read_text()
    assert "torch" not in maps and "numpy" not in maps


def resident(pid: int) -> int:
    """VmRSS of the process, kB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def test_a_thousand_agents_connections_fit_into_its_memory(gang: Gang, tmp_path: Path) -> None:
    own = certificate(tmp_path, "localhost")
    gang.extra[str(Env.TLS_CERTIFICATE_FILE)] = str(own)
    gang.extra[str(Env.TLS_KEY_FILE)] = str(own.with_suffix(".key"))
    process = gang.start_coordinator()
    assert ask(endpoint(gang, trusted=own)) == 200
    directory = CoordinatorAddresses(endpoint(gang, trusted=own))
    connections = [Connection(directory) for _ in range(100)]
    before = resident(process.pid)
    for connection in connections:
        assert connection.request("GET", wire.HEALTH, None, 30.0).status == 200
    assert (resident(process.pid) - before) / len(connections) < CONNECTION_KILOBYTES


def test_it_ends_when_told(gang: Gang) -> None:
    process = gang.start_coordinator()
    gang.wait_for(lambda state: True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == ExitCode.SUCCESS


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        pytest.param(Env.RUN_CONFIG, "/no/such/file", "cannot be read", id="no config"),
        pytest.param(Env.COORDINATOR_PORT, "many", "must be a whole number", id="port"),
        pytest.param(Env.RUN_TOKEN_FILE, "/no/token", "must be a file that exists", id="token"),
        pytest.param(Env.TLS_CERTIFICATE_FILE, __file__, "set both or neither", id="certificate without key"),
    ],
)
def test_a_wrong_environment_is_one_clear_line(gang: Gang, variable: Env, value: str, says: str) -> None:
    gang.extra[str(variable)] = value
    process = gang.start_coordinator()
    assert process.wait(30) == ExitCode.CONFIG
    [line] = gang.log("coordinator-1").splitlines()
    assert says in line and variable in line


def test_agents_trust_the_runs_own_certificate_and_no_other(gang: Gang, tmp_path: Path) -> None:
    own, other = certificate(tmp_path, "localhost"), certificate(tmp_path, "elsewhere")
    gang.extra[str(Env.TLS_CERTIFICATE_FILE)] = str(own)
    gang.extra[str(Env.TLS_KEY_FILE)] = str(own.with_suffix(".key"))
    gang.start_coordinator()
    assert ask(endpoint(gang, trusted=own)) == 200
    assert ask(endpoint(gang, hint="127.0.0.1", trusted=own)) == 200  # by address, authenticated by name
    with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        ask(endpoint(gang, trusted=other))


def test_why_an_agent_ends_is_heard_by_a_coordinator_that_stands_still_for_a_moment(
    gang: Gang, tmp_path: Path
) -> None:
    own = certificate(tmp_path, "localhost")
    gang.extra[str(Env.TLS_CERTIFICATE_FILE)] = str(own)
    gang.extra[str(Env.TLS_KEY_FILE)] = str(own.with_suffix(".key"))
    process = gang.start_coordinator()
    assert ask(endpoint(gang, trusted=own)) == 200
    session = Session(agent(0), endpoint(gang, trusted=own), None, EnergyMeter())

    process.send_signal(signal.SIGSTOP)
    awake = threading.Timer(2 * timing.CONNECT, process.send_signal, [signal.SIGCONT])
    awake.start()
    reason = failure(Cause.IMAGE_OR_CONFIG)

    assert session.send_failure(reason, 60.0)
    assert [entry.failure for entry in state_of(gang, own).failures] == [reason]


def state_of(gang: Gang, own: Path) -> CoordinatorState:
    answer = Connection(CoordinatorAddresses(endpoint(gang, trusted=own))).request(
        "GET", wire.STATE, None, 30.0
    )
    return CoordinatorState.from_json(json.loads(answer.body))


def test_a_hint_that_is_wrong_by_now_is_no_obstacle(gang: Gang) -> None:
    gang.start_coordinator()
    gang.wait_for(lambda state: True)
    assert ask(endpoint(gang, hint="127.0.0.2")) == 200


def test_a_coordinator_of_a_lower_epoch_than_was_heard_is_refused(gang: Gang) -> None:
    gang.start_coordinator(epoch=1)
    gang.wait_for(lambda state: True)
    directory = CoordinatorAddresses(endpoint(gang))
    assert directory.accept_answer("127.0.0.9", 2)
    with pytest.raises(Unreachable, match="was replaced"):
        Connection(directory).request("GET", wire.STATE, None, 5.0)
