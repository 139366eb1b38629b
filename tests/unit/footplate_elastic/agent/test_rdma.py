"""Whether RDMA can work on a node, before a rank is forked there."""

from __future__ import annotations

from pathlib import Path

import pytest

from footplate_contracts.names import Cause, ExitCode, Reason
from footplate_elastic.agent.rdma import effective_capabilities, find_rdma_obstacle

GIB = 1 << 30
IPC_LOCK = 1 << 14
ENOUGH_DEVICES = ("uverbs0", "uverbs7", "rdma_cm")


def folder(path: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        (path / name).touch()
    return path


@pytest.mark.parametrize(
    ("resource", "locked", "capabilities", "names", "says"),
    [
        pytest.param("rdma/ib", 64 << 10, 0, ENOUGH_DEVICES, "RLIMIT_MEMLOCK is 65536 bytes", id="64-KiB"),
        pytest.param("rdma/ib", GIB - 1, 0, ENOUGH_DEVICES, "LimitMEMLOCK=infinity", id="a-byte-short"),
        pytest.param("rdma/ib", GIB, 0, ENOUGH_DEVICES, "", id="1-GiB"),
        pytest.param("rdma/ib", -1, 0, ENOUGH_DEVICES, "", id="unlimited"),
        pytest.param("rdma/ib", 64 << 10, IPC_LOCK, ENOUGH_DEVICES, "", id="the-kernel-asks-no-limit"),
        pytest.param("rdma/ib", 64 << 10, ~IPC_LOCK, ENOUGH_DEVICES, "RLIMIT_MEMLOCK", id="other-rights"),
        pytest.param("rdma/ib", -1, 0, ("rdma_cm",), "network.rdma.resource rdma/ib", id="no-devices"),
        pytest.param("", 64 << 10, 0, (), "", id="the-profile-requests-none"),
    ],
)
def test_a_node_without_what_rdma_needs_is_refused(
    tmp_path: Path, resource: str, locked: int, capabilities: int, names: tuple[str, ...], says: str
) -> None:
    refusal = find_rdma_obstacle(resource, locked, capabilities, folder(tmp_path, names), now=9.0)
    assert (refusal is not None) == bool(says)
    if refusal is not None:
        assert says in refusal.message
        assert (refusal.cause, refusal.reason) == (Cause.IMAGE_OR_CONFIG, Reason.NODE_MISCONFIGURED)
        assert (refusal.exit_code, refusal.time) == (ExitCode.STALE, 9.0)  # its place is given up


def test_a_folder_that_is_not_there_has_no_devices(tmp_path: Path) -> None:
    refusal = find_rdma_obstacle("rdma/ib", -1, 0, tmp_path / "infiniband", now=0.0)
    assert refusal is not None and str(tmp_path / "infiniband/uverbs*") in refusal.message


@pytest.mark.parametrize(
    ("status", "capabilities"),
    [
        pytest.param("Name:\tpython\nCapPrm:\t0\nCapEff:\t00000000a80465fb\n", 0xA80465FB, id="root"),
        pytest.param("CapEff:\t0000000000000000\nCapBnd:\t0000000000004000\n", 0, id="bounding-set-only"),
        pytest.param("Name:\tpython\n", 0, id="not-said"),
    ],
)
def test_effective_capabilities(status: str, capabilities: int) -> None:
    assert effective_capabilities(status) == capabilities
