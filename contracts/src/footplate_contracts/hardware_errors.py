"""Error texts of NCCL, CUDA, the NVIDIA driver and libibverbs, with what mends the machine.

Each row stands for texts of tests/golden/crashes/hardware.yaml, which names the public thread of each.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class HardwareError(NamedTuple):
    """Texts of one trouble."""

    pattern: str
    remedy: str


_DRAIN: Final = "drain the node and have the device checked: dmesg, nvidia-smi -q, dcgmi diag -r 3, ibstat"

# No program brings these about, and another node has a device that works.
BROKEN_DEVICES: Final = (
    HardwareError(
        r"system not yet initialized|error in the Fabric Manager"
        r"|transport/nvls\.cc:\d+ NCCL WARN Cuda failure (1 |401 |999 )?'(?!out of memory)",
        "start nvidia-fabricmanager, of the driver's version, on the node; after its restart reset the GPUs",
    ),
    HardwareError(
        r"No CUDA GPUs are available|no CUDA-capable device|invalid device ordinal"
        r"|CUDA-capable device(\(s\) is/are|s are) busy or unavailable",
        "compare nvidia-smi on the node with the GPUs that it advertises, end whatever else holds them,"
        " or drain the node",
    ),
    HardwareError(
        r"Driver/library version mismatch",
        "reboot the node: its driver was upgraded, and the old one is still loaded",
    ),
    HardwareError(
        r"uncorrectable (ECC|NVLink) error|cudaErrorECCUncorrectable|GPU is lost|fallen off the bus"
        r"|Unable to determine the device handle|over nvlink or a hardware error"
        r"|NVRM: Xid .*: (48|74|79|94|95|119),|NVRM: Xid .*: 1(4[4-9]|50), \S+ Fatal"
        r"|caused by previous Xid 1(4[4-9]|50)|Cuda failure 999|CUDA error: unknown error"
        r"|async event : local catastrophic error",
        _DRAIN,
    ),
)

# Image, profile and node do not fit together, and a restart on this node meets the same.
MISCONFIGURED_NODES: Final = (
    HardwareError(
        r"(ibv_\w+|fi_mr_reg|libfabric:|UCX +ERROR).*Cannot allocate memory"
        r"|Call to ibv_(reg_mr|create_cq|create_qp)\w* failed$",
        "set LimitMEMLOCK=infinity in the systemd unit of the node's container runtime and restart it;"
        " the capability IPC_LOCK does nothing for a user other than root",
    ),
    HardwareError(
        r"ibv_reg_(dmabuf_)?mr\w* failed with (error )?(\d+ )?(Bad address|Operation not supported)",
        "load nvidia-peermem on the node (modprobe nvidia-peermem), or set NCCL_NET_GDR_LEVEL: LOC in"
        " network.nccl of the ComputeProfile",
    ),
    HardwareError(
        r"Error: network [\w -]{1,32} not found|Failed to initialize any NET plugin"
        r"|aws-ofi-nccl initialization failed",
        "NCCL_NET in network.nccl of the ComputeProfile names a network that node or image lacks: request its"
        " devices by network.rdma, use an image with its plugin, or remove NCCL_NET",
    ),
    HardwareError(
        r"Bootstrap ?: no socket interface found|connecting to address .*is neither AF_INET",
        "no interface has the name in network.interfaces of the ComputeProfile: compare with ip -br address"
        " in a pod, or leave it empty",
    ),
    HardwareError(
        r"ibv_modify_qp failed with (error )?(\d+ )?(No such device|Invalid argument)",
        "set NCCL_IB_HCA and NCCL_IB_GID_INDEX in network.nccl of the ComputeProfile to ports of one fabric;"
        " show_gids in a pod lists those of its network",
    ),
    HardwareError(
        r"peer access is not supported",
        'turn PCIe ACS and the IOMMU off on the node, or set NCCL_P2P_DISABLE: "1" in network.nccl of the'
        " ComputeProfile",
    ),
    HardwareError(
        r"driver version is insufficient|NVIDIA driver on your system is too old"
        r"|unsupported display driver|forward compatibility was attempted",
        "install a driver on the node that the image's CUDA runs on, or use an image for this driver, without"
        " CUDA's compatibility libraries on devices that they do not know",
    ),
    HardwareError(
        r"Found no NVIDIA driver",
        "the container runtime gave the pod no driver: install nvidia-container-toolkit on the node, or have"
        " the ComputeProfile request gpu.resource",
    ),
    HardwareError(
        r"Message truncated : received \d+ bytes instead of \d+",
        "use one NCCL version on all nodes: what nodes mount over the image's own has to match",
    ),
)

# Links between nodes: they may come back.
BROKEN_LINKS: Final = (
    HardwareError(
        r"NET/IB.*(error |status=)12|async event : port error|ibv_modify_qp failed",
        "check ports and switches of both nodes: ibstat, ibqueryerrors, and whether a RoCE network routes"
        " between them",
    ),
    HardwareError(
        r"ncclInternalError",
        "NCCL_DEBUG: WARN in network.nccl of the ComputeProfile has ranks log the call that failed",
    ),
)
