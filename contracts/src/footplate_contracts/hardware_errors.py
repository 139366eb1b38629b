"""Error texts of NCCL, CUDA, the NVIDIA driver and libibverbs: regular expression -> what mends the machine.

Each stands for texts of tests/golden/crashes/hardware.yaml, which names the public thread of each.
"""

from __future__ import annotations

from typing import Final

# No program brings these about, and another node has a device that works.
BROKEN_DEVICES: Final = {
    r"system not yet initialized|error in the Fabric Manager"
    r"|transport/nvls\.cc:\d+ NCCL WARN Cuda failure (1 |401 |999 )?'(?!out of memory)": (
        "start nvidia-fabricmanager, of the driver's version, on the node; after its restart reset the GPUs"
    ),
    r"No CUDA GPUs are available|no CUDA-capable device|(?<!failure 101 ')invalid device ordinal"
    r"|CUDA-capable device(\(s\) is/are|s are) busy or unavailable": (
        "compare nvidia-smi on the node with the GPUs it advertises, end other users of them, or drain it"
    ),
    r"Driver/library version mismatch": "reboot the node: its driver was upgraded while it was in use",
    r"uncorrectable (ECC|NVLink) error|cudaErrorECCUncorrectable|GPU is lost|fallen off the bus"
    r"|Unable to determine the device handle|over nvlink or a hardware error"
    r"|NVRM: Xid .*: (48|74|79|94|95|119),|NVRM: Xid .*: 1(4[4-9]|50), \S+ Fatal"
    r"|caused by previous Xid 1(4[4-9]|50)|Cuda failure 999|CUDA error: unknown error"
    r"|async event : local catastrophic error": (
        "drain the node and have its devices checked: dmesg, nvidia-smi -q, dcgmi diag -r 3, ibstat"
    ),
}

LOCKED_MEMORY: Final = (
    "set LimitMEMLOCK=infinity in the systemd unit of the node's container runtime and restart that;"
    " the capability IPC_LOCK does nothing for a user other than root"
)
# Image, profile and node do not fit together, and a restart on this node meets the same.
MISCONFIGURED_NODES: Final = {
    r"(ibv_\w+|fi_mr_reg|libfabric:|UCX +ERROR).*Cannot allocate memory"
    r"|Call to ibv_(reg_mr|create_cq|create_qp)\w* failed$": LOCKED_MEMORY,
    r"ibv_reg_(dmabuf_)?mr\w* failed with (error )?(\d+ )?(Bad address|Operation not supported)": (
        "load nvidia-peermem on the node, or set NCCL_NET_GDR_LEVEL: LOC in the profile's network.nccl"
    ),
    r"Error: network [\w -]{1,32} not found|Failed to initialize any NET plugin"
    r"|aws-ofi-nccl initialization failed": (
        "node or image lacks the network that NCCL_NET in the profile's network.nccl names: request its"
        " devices by network.rdma, use an image with its plugin, or remove NCCL_NET"
    ),
    r"Bootstrap ?: no socket interface found|connecting to address .*is neither AF_INET": (
        "no interface has the name in the profile's network.interfaces: compare with ip -br address in a pod,"
        " or leave it empty"
    ),
    r"ibv_modify_qp failed with (error )?(\d+ )?(No such device|Invalid argument)": (
        "set NCCL_IB_HCA and NCCL_IB_GID_INDEX in the profile's network.nccl to ports of one fabric;"
        " show_gids lists a pod's ports"
    ),
    r"peer access is not supported": (
        "turn PCIe ACS and the IOMMU off on the node, or set NCCL_P2P_DISABLE in the profile's network.nccl"
    ),
    r"transport/p2p\.cc:\d+ NCCL WARN Cuda failure 101": (
        "let each rank see all GPUs of its node, and where NVLink spans nodes claim a ComputeDomain's channel"
    ),
    r"driver version is insufficient|NVIDIA driver on your system is too old"
    r"|unsupported display driver|forward compatibility was attempted": (
        "install a driver on the node that the image's CUDA supports, or use an image for the node's driver"
    ),
    r"Found no NVIDIA driver": "install nvidia-container-toolkit on the node; request GPUs by gpu.resource",
    r"Message truncated : received \d+ bytes instead of \d+": (
        "use one NCCL version on all nodes, also where nodes mount their own over the image's"
    ),
}

# Links between nodes: they may come back.
BROKEN_LINKS: Final = {
    r"NET/IB.*(error |status=)12|async event : port error|ibv_modify_qp failed": (
        "check ports and switches of both nodes: ibstat, ibqueryerrors; in a RoCE network its routes, too"
    ),
    r"ncclInternalError": "NCCL_DEBUG: WARN in the profile's network.nccl has ranks log the call that failed",
}
