"""Small decisions: backend, volumes, fake GPUs, credentials, lines of progress."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.choice import Choice, decide
from cluster.errors import ClusterError, CommandFailed
from cluster.kubernetes import environment, gpus, volumes
from cluster.kubernetes.api_client import parse_kubeconfig
from cluster.machine import progress, shell
from cluster.programs.kubeadm import Identity, configuration


@pytest.mark.parametrize(
    ("environ", "kind_works", "expected"),
    [
        pytest.param({}, False, Choice.NATIVE, id="bare-machine"),
        pytest.param({}, True, Choice.KIND, id="docker-and-kind"),
        pytest.param({"CLUSTER": "native"}, True, Choice.NATIVE, id="asked-for"),
        pytest.param({"CLUSTER": "existing"}, True, Choice.EXISTING, id="someone-elses"),
    ],
)
def test_the_backend(environ: dict[str, str], kind_works: bool, expected: Choice) -> None:
    assert decide(environ, kind_works) is expected


def test_an_unknown_backend_names_the_known_ones() -> None:
    with pytest.raises(ClusterError, match="CLUSTER=minikube is unknown; it can be native, kind, existing"):
        decide({"CLUSTER": "minikube"}, False)


def claim(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "shared", "namespace": "research", "uid": "0123456789ab"},
        "spec": {
            "storageClassName": "footplate-shared",
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "5Gi"}},
            **spec,
        },
        "status": {"phase": "Pending"},
    }


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param({}, True, id="pending"),
        pytest.param({"storageClassName": "gold"}, False, id="of-another-class"),
        pytest.param({"volumeName": "pv"}, False, id="bound"),
    ],
)
def test_which_claims_get_a_volume(changed: dict[str, Any], expected: bool) -> None:
    assert volumes.wants_volume(claim(**changed)) is expected


def test_a_claim_on_its_way_out_gets_no_volume() -> None:
    leaving = claim()
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not volumes.wants_volume(leaving)


def test_a_volume_is_reserved_for_its_claim() -> None:
    volume = volumes.volume(claim(), Path("/shared") / volumes.folder_name(claim()))
    assert volume["spec"]["claimRef"]["uid"] == "0123456789ab"
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]
    assert volume["spec"]["hostPath"]["path"] == "/shared/research-shared-01234567"
    assert not volumes.is_released(volume)
    assert volumes.is_released({**volume, "status": {"phase": "Released"}})


@pytest.mark.parametrize(
    ("text", "expected"), [("64Mi", 64 * 2**20), ("1.5Gi", 3 * 2**29), ("2M", 2_000_000), ("512", 512)]
)
def test_quantities(text: str, expected: int) -> None:
    assert volumes.quantity(text) == expected


def test_only_a_claim_that_asks_for_it_is_ever_full() -> None:
    limited = claim()
    assert volumes.size_limit(limited) is None
    limited["metadata"]["annotations"] = {"footplate.dev/enforce-size": "true"}
    assert volumes.size_limit(limited) == 5 * 2**30


@pytest.mark.parametrize(
    ("capacity", "count", "operations"),
    [
        pytest.param({}, 8, 2, id="given"),
        pytest.param({"nvidia.com/gpu": "8"}, 8, 0, id="there-already"),
        pytest.param({"nvidia.com/gpu": "8"}, 0, 2, id="taken-away"),
        pytest.param({}, 0, 0, id="never-had-any"),
    ],
)
def test_fake_gpus(capacity: dict[str, str], count: int, operations: int) -> None:
    assert len(gpus.patch({"capacity": capacity}, count)) == operations


def kubeconfig() -> str:
    def data(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    return f"""
clusters:
- cluster:
    certificate-authority-data: {data("authority")}
    server: https://10.88.0.1:6443
users:
- name: admin
  user:
    client-certificate-data: {data("certificate")}
    client-key-data: {data("key")}
"""


def test_a_kubeconfig_of_kubeadm_is_read() -> None:
    credentials = parse_kubeconfig(kubeconfig())
    assert credentials.server == "https://10.88.0.1:6443"
    assert (credentials.authority, credentials.key) == (b"authority", b"key")


def test_a_kubeconfig_without_a_key_is_named() -> None:
    text = kubeconfig().replace("client-key-data", "token")
    with pytest.raises(ClusterError, match="kubeconfig has no client-key-data"):
        parse_kubeconfig(text)


def test_kubeadm_is_never_given_a_loopback_address_to_advertise() -> None:
    documents = configuration(Identity("envtest", "127.0.0.1", 4711, Path("/pki")))
    assert not documents[1]["localAPIEndpoint"]["advertiseAddress"].startswith("127.")
    assert documents[0]["controlPlaneEndpoint"] == "127.0.0.1:4711"


@pytest.mark.parametrize(("text", "quoted"), [("/a b", "/a b"), ('/a"$b`', r"/a\"\$b\`"), ("\\", "\\\\")])
def test_paths_between_double_quotes(text: str, quoted: str) -> None:
    assert environment.double_quoted(text) == quoted


def test_a_line_of_progress_has_its_seconds_in_a_column() -> None:
    assert progress.line(1.25, "built") == "[cluster]    1.2 s  built"
    assert progress.line(None, "built").index("built") == progress.line(100.0, "built").index("built")


def test_a_failed_command_shows_itself_and_the_end_of_its_output() -> None:
    with pytest.raises(CommandFailed) as error:
        shell.run(["sh", "-c", "seq 1 100; exit 3"])
    assert "ended with 3" in str(error.value)
    assert str(error.value).endswith("    100")


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandFailed, match="`no-such-program` is not installed"):
        shell.run(["no-such-program"])
