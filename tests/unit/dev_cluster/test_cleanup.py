"""What a crash leaves is found by the names that are ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.machine import cgroups, mounts
from cluster.machine.processes import Service, command

MOUNTINFO = r"""
22 1 8:1 / / rw - ext4 /dev/vda rw
30 22 0:30 / /run/footplate/node-1/containerd/x/rootfs rw - overlay overlay rw
31 22 0:31 / /cache/cluster/nodes/node-1/kubelet/pods/u/volumes/a\040b rw - tmpfs tmpfs rw
32 31 0:32 / /cache/cluster/nodes/node-1/kubelet/pods/u/volumes/a\040b/c rw - tmpfs tmpfs rw
33 22 0:33 / /cache/cluster-of-someone-else rw - tmpfs tmpfs rw
""".strip()


def test_mounts_are_found_by_folder_the_last_one_first() -> None:
    points = mounts.mount_points(MOUNTINFO)
    ours = mounts.below(points, [Path("/run/footplate"), Path("/cache/cluster")])
    assert ours == [
        "/cache/cluster/nodes/node-1/kubelet/pods/u/volumes/a b/c",
        "/cache/cluster/nodes/node-1/kubelet/pods/u/volumes/a b",
        "/run/footplate/node-1/containerd/x/rootfs",
    ]


def tree(root: Path, *groups: str) -> None:
    for group in ("", *groups):
        folder = root / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.procs").write_text("")


def test_groups_of_all_v1_trees_are_ours_by_prefix(tmp_path: Path) -> None:
    tree(tmp_path / "pids", "footplate-node-1/system", "docker")
    tree(tmp_path / "memory", "footplate-node-1")
    found = {str(group.relative_to(tmp_path)) for group in cgroups.groups(tmp_path)}
    assert found == {"pids/footplate-node-1", "memory/footplate-node-1"}
    assert cgroups.tracking_hierarchy(tmp_path) == tmp_path / "pids"


def test_the_single_v2_tree(tmp_path: Path) -> None:
    tree(tmp_path, "footplate-node-1")
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    assert cgroups.hierarchies(tmp_path) == [tmp_path]
    assert cgroups.tracking_hierarchy(tmp_path) == tmp_path


def test_members_are_collected_down_to_the_containers(tmp_path: Path) -> None:
    tree(tmp_path / "pids", "footplate-node-1/system", "footplate-node-1/kubepods/pod1/c1")
    (tmp_path / "pids/footplate-node-1/system/cgroup.procs").write_text("10\n11\n")
    (tmp_path / "pids/footplate-node-1/kubepods/pod1/c1/cgroup.procs").write_text("12\n")
    assert cgroups.members(cgroups.groups(tmp_path)) == {10, 11, 12}


@pytest.mark.parametrize("network", [None, "footplate-node-1"])
def test_a_program_enters_its_group_before_anything_else(network: str | None) -> None:
    words = command(Service("kubelet", ("kubelet", "--x"), "node-1", network=network))
    assert words[:2] == ["sh", "-c"]
    assert words[4].endswith("footplate-node-1/system/cgroup.procs")
    assert words[-2:] == ["kubelet", "--x"]
    assert ("nsenter" in words) == (network is not None)


def test_a_program_without_a_group_is_started_as_it_is() -> None:
    assert command(Service("provisioner", ("python3", "x"), None)) == ["python3", "x"]
