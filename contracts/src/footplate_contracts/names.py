"""Names that two programs must spell alike: labels, objects, variables, exit codes, causes and reasons.

Labels and annotations carry the group as prefix. Functions build the names that contain a run's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, NewType

GROUP: Final = "footplate.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

RunUid = NewType("RunUid", str)
"""`metadata.uid` of a TrainingRun: unlike its name, never used twice."""


@dataclass(frozen=True, slots=True)
class WorkerId:
    """Slot and incarnation of a worker pod: no two workers of a run ever have the same."""

    index: int  # the slot
    incarnation: int  # grows with every pod of a run


# A hostname label holds 63 characters; the longest suffix of ours is "-w4096-99999" with
# room to spare, so a run's name gets 40.
RUN_NAME_LIMIT: Final = 40

# -- labels and annotations ------------------------------------------------------

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "footplate"
RUN_LABEL: Final = f"{GROUP}/run"
RUN_UID_LABEL: Final = f"{GROUP}/run-uid"
ROLE_LABEL: Final = f"{GROUP}/role"
INDEX_LABEL: Final = f"{GROUP}/index"
INCARNATION_LABEL: Final = f"{GROUP}/incarnation"
EPOCH_LABEL: Final = f"{GROUP}/epoch"
PROFILE_LABEL: Final = f"{GROUP}/profile"
WRITTEN_BY_ANNOTATION: Final = f"{GROUP}/written-by"  # version of the program that wrote the object
# Whoever asked the API for the object. No label: user names have colons.
REQUESTED_BY_ANNOTATION: Final = f"{GROUP}/requested-by"

FIELD_MANAGER: Final = "footplate-operator"


class Role(StrEnum):
    """Role of a run's pod; the value of ROLE_LABEL."""

    COORDINATOR = "coordinator"
    WORKER = "worker"
    SPARE = "spare"


class Backend(StrEnum):
    """Collective library."""

    NCCL = "nccl"
    GLOO = "gloo"


# -- names of a run's children ----------------------------------------------------


def worker_pod_name(run: str, index: int, incarnation: int) -> str:
    """Return the name and hostname of worker `index` in its `incarnation` (both from 0)."""
    return f"{run}-w{index}-{incarnation}"


# Worker indices from here on are no places of a gang: a spare has one until it takes a place.
FIRST_SPARE: Final = 4096


def spare_pod_name(run: str, number: int, incarnation: int) -> str:
    """Return the name and hostname of spare `number` in its `incarnation` (from 0), even once a worker."""
    return f"{run}-s{number}-{incarnation}"


def coordinator_pod_name(run: str, epoch: int) -> str:
    """Return the name of the coordinator pod of `epoch` (from 1)."""
    return f"{run}-c{epoch}"


def coordinator_service_name(run: str) -> str:
    """Return the name of the headless Service in front of the coordinator."""
    return f"{run}-coordinator"


def secret_name(run: str) -> str:
    """Return the name of the Secret with the run's token and TLS key."""
    return f"{run}-run"


def config_map_name(run: str, digest: str) -> str:
    """Return the name of the ConfigMap of a RunConfig whose content hashes to `digest`."""
    return f"{run}-config-{digest[:10]}"


def api_ca_name(run: str) -> str:
    """Return the name of the ConfigMap with the API's CA certificates for the run's coordinator."""
    return f"{run}-api-bundle"  # the release has its own under "-api-ca", maybe beside the run


def revision_name(run: str, revision: int) -> str:
    """Return the name of the ControllerRevision that froze profile and defaults."""
    return f"{run}-{revision}"


# -- environment, files and ports in a run's pods ---------------------------------

COORDINATOR_PORT: Final = 29400
RUN_CONFIG_MOUNT: Final = "/etc/footplate/config"
RUN_CONFIG_FILE: Final = "run.json"
RUN_SECRET_MOUNT: Final = "/etc/footplate/run"
SECRET_TOKEN_KEY: Final = "token"
API_TOKEN_MOUNT: Final = "/etc/footplate/api"
API_TOKEN_FILE: Final = "token"
API_CA_FILE: Final = "ca.crt"  # certificates that vouch for the API
API_AUDIENCE: Final = "footplate-api"  # for which the tokens of service accounts are that the API is shown
SECRET_CERTIFICATE_KEY: Final = "tls.crt"
SECRET_PRIVATE_KEY_KEY: Final = "tls.key"
# Before the name of a variable from a Secret that a reward function wants; its process alone gets it.
REWARD_SECRET_PREFIX: Final = "FOOTPLATE_REWARD_SECRET_"


class Env(StrEnum):
    """Environment variables that the operator sets and our programs read."""

    RUN_CONFIG = "FOOTPLATE_RUN_CONFIG"  # path of the RunConfig JSON
    RUN_TOKEN_FILE = "FOOTPLATE_RUN_TOKEN_FILE"
    TLS_CERTIFICATE_FILE = "FOOTPLATE_TLS_CERTIFICATE_FILE"  # the run's own, self-signed
    TLS_KEY_FILE = "FOOTPLATE_TLS_KEY_FILE"  # coordinator only
    COORDINATOR_HOST = "FOOTPLATE_COORDINATOR_HOST"  # DNS name; also the TLS server name
    COORDINATOR_ADDRESS = "FOOTPLATE_COORDINATOR_ADDRESS"  # IP known at creation: a hint, tried first
    COORDINATOR_PORT = "FOOTPLATE_COORDINATOR_PORT"
    COORDINATOR_EPOCH = "FOOTPLATE_COORDINATOR_EPOCH"  # coordinator only
    DIRECTIVES = "FOOTPLATE_DIRECTIVES"  # coordinator only; JSON of the Directives that hold now
    LIMITS = "FOOTPLATE_LIMITS"  # JSON of the NumberedLimits that ranks begin with, set for ranks
    API_URL = "FOOTPLATE_API_URL"  # coordinator only; unset: no telemetry is sent
    API_TOKEN_FILE = (
        "FOOTPLATE_API_TOKEN_FILE"  # coordinator only; a service account's, renewed by the kubelet
    )
    API_CA_FILE = "FOOTPLATE_API_CA_FILE"  # coordinator only; certificates that vouch for the API
    POD_NAME = "FOOTPLATE_POD_NAME"
    POD_UID = "FOOTPLATE_POD_UID"
    POD_IP = "FOOTPLATE_POD_IP"
    NODE_NAME = "FOOTPLATE_NODE_NAME"
    WORKER_INDEX = "FOOTPLATE_WORKER_INDEX"
    WORKER_INCARNATION = "FOOTPLATE_WORKER_INCARNATION"
    RANK_LINK = "FOOTPLATE_RANK_LINK"  # path of the agent's Unix socket, set for ranks
    MEMORY_FOLDER = "FOOTPLATE_MEMORY_FOLDER"  # in /dev/shm, the agent's; set for ranks
    REVISION = "FOOTPLATE_REVISION"  # of the code, where the image knows it
    LOG_FORMAT = "FOOTPLATE_LOG_FORMAT"  # a LogFormat; read by all programs
    GENERATION = "FOOTPLATE_GENERATION"  # "<epoch>.<number>", set for ranks
    RDMA = "FOOTPLATE_RDMA"  # extended resource of the worker's RDMA devices; unset: it requests none
    DATA_CACHE = (
        "FOOTPLATE_DATA_CACHE"  # folder for copies of what lies elsewhere; set by whoever wants another
    )
    DATA_CACHE_BYTES = "FOOTPLATE_DATA_CACHE_BYTES"  # how much may lie there; unset: what the volume has


class LogFormat(StrEnum):
    """Format of a log line, see logs."""

    LOGFMT = "logfmt"  # time=… level=INFO logger=… message="…" run=…; a traceback follows on lines of its own
    JSON = "json"  # one object a line; a traceback is its member `exception`
    TEXT = "text"  # the message alone, for whoever started a command at a terminal


class ExitCode(IntEnum):
    """Exit codes of our processes; the failure policy reads that of a pod."""

    SUCCESS = 0
    USER_ERROR = 1
    STORAGE = 74  # EX_IOERR: checkpoint or data I/O
    CONFIG = 78  # EX_CONFIG: nothing a restart could mend
    SUSPENDED = 79  # the checkpoint that was asked for is durable
    STALE = 80  # a newer incarnation or generation took this place
    GPU_ERROR = 81  # the driver calls a device of this node broken


class Cause(StrEnum):
    """Cause of an attempt's end; each has its own restart limit (see the failure policy)."""

    USER_ERROR = "UserError"
    OUT_OF_MEMORY = "OutOfMemory"
    COMMUNICATION = "Communication"
    NODE_LOST = "NodeLost"
    PREEMPTED = "Preempted"
    HANG = "Hang"
    NO_PROGRESS = "NoProgress"
    STORAGE = "Storage"
    NUMERICAL_DIVERGENCE = "NumericalDivergence"
    IMAGE_OR_CONFIG = "ImageOrConfig"
    STRAGGLER_SUSPECTED = "StragglerSuspected"

    @classmethod
    def unknown(cls, text: str) -> Cause:
        """Return a cause that a newer release added: it keeps its text, and equals none of these."""
        cause = str.__new__(cls, text)
        cause._name_ = cause._value_ = text
        return cause


class Phase(StrEnum):
    """`status.phase` of a TrainingRun."""

    QUEUED = "Queued"
    ADMITTED = "Admitted"
    STARTING = "Starting"
    PREFLIGHT = "Preflight"
    RUNNING = "Running"
    CHECKPOINTING = "Checkpointing"  # training has waited for a checkpoint for seconds
    RESTARTING = "Restarting"
    SUSPENDING = "Suspending"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def is_terminal(self) -> bool:
        """True if a run in this phase has ended for good."""
        return self in (Phase.SUCCEEDED, Phase.FAILED)


class ConditionType(StrEnum):
    """Types of `status.conditions[]`."""

    READY = "Ready"  # every worker trains
    RECONCILED = "Reconciled"  # False: the operator could not do what the spec asks
    PROGRESSING = "Progressing"  # False: something holds the run up; the reason says what
    CHECKPOINTED = "Checkpointed"  # a durable checkpoint exists
    COMPLETE = "Complete"  # True: succeeded; never False, as with a Job
    FAILED = "Failed"  # True: failed; never False
    SUSPENDED = "Suspended"  # True: saved and without pods, until it is resumed; False: resumed since
    WITHIN_BUDGET = "WithinBudget"  # False: spec.budget is spent; Unknown: not all is known that was spent


class Reason(StrEnum):
    """CamelCase reasons of conditions and attempts."""

    AS_DESIRED = "AsDesired"
    PENDING_RESUME = "PendingResume"  # ranks read a changed field only when they start
    PROFILE_NOT_FOUND = "ProfileNotFound"
    WAITING_FOR_RUN = "WaitingForRun"  # that the spec names
    RUN_NOT_FOUND = "RunNotFound"
    RUN_FAILED = "RunFailed"  # another one, that the spec names
    RUN_INCOMPATIBLE = "RunIncompatible"  # another one, by its stage or the shape of its model
    RUN_CYCLE = "RunCycle"  # each waits for the other
    CHECKPOINT_NOT_FOUND = "CheckpointNotFound"  # of another run
    CREDENTIALS_UNKNOWN = "CredentialsUnknown"  # an earlier operator made them, and they were not handed over
    REVISION_UNREADABLE = "RevisionUnreadable"  # another release wrote it
    STATUS_UNREADABLE = "StatusUnreadable"  # another release wrote it
    CHILD_CONFLICT = "ChildConflict"
    CHILD_EDITED = "ChildEdited"  # by hand: it was set back
    API_ERROR = "ApiError"
    OPERATOR_ERROR = "OperatorError"  # a mistake of its own
    WAITING_FOR_COORDINATOR = "WaitingForCoordinator"
    WAITING_FOR_WORKERS = "WaitingForWorkers"
    WAITING_FOR_TURN = "WaitingForTurn"  # another gang gathers, or takes precedence
    QUOTA_EXCEEDED = "QuotaExceeded"  # a ResourceQuota refused a pod
    ADMISSION_REFUSED = "AdmissionRefused"  # a LimitRange, policy or webhook refused an object
    TRAINING = "Training"
    SAVING = "Saving"  # and training waits for it
    DEGRADED = "Degraded"  # ranks train, and one of them is missed or leaves
    RESTARTING = "Restarting"
    RESIZED = "Resized"
    SIZE_REFUSED = "SizeRefused"
    LENGTH_REFUSED = "LengthRefused"
    SUSPENDED = "Suspended"
    SUSPENDING = "Suspending"
    RESUMED = "Resumed"
    FINISHED = "Finished"
    NOTHING_TO_TRAIN = "NothingToTrain"  # checkpoint.uri holds the last step already
    UNSCHEDULABLE = "Unschedulable"
    TOPOLOGY_UNKNOWN = "TopologyUnknown"  # no node has the label of the profile's placement
    ERR_IMAGE_PULL = "ErrImagePull"
    CREATE_CONTAINER_CONFIG_ERROR = "CreateContainerConfigError"
    CONTAINER_CANNOT_RUN = "ContainerCannotRun"  # its command is not in the image
    FAILED_MOUNT = "FailedMount"
    DATA_MISSING = "DataMissing"
    DATA_CORRUPT = "DataCorrupt"
    STORAGE_FULL = "StorageFull"
    STORAGE_ERROR = "StorageError"
    RESTART_LIMIT_EXCEEDED = "RestartLimitExceeded"
    STARTUP_DEADLINE_EXCEEDED = "StartupDeadlineExceeded"
    GANG_INCOMPLETE = "GangIncomplete"  # for too long: its nodes were given back
    PYTHON_ERROR = "PythonError"
    NOT_FINITE = "NotFinite"  # loss or gradient norm
    SAMPLES_UNREWARDED = "SamplesUnrewarded"  # too many of a rollout
    OUT_OF_MEMORY = "OutOfMemory"
    GPU_ERROR = "GpuError"  # the driver calls a device broken
    NODE_MISCONFIGURED = "NodeMisconfigured"  # its driver, limits or network do not fit image and profile
    PEER_LOST = "PeerLost"
    NETWORK_PARTITION = "NetworkPartition"  # nodes that do not reach each other
    RANK_KILLED = "RankKilled"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"  # no rank finished a step
    POD_DELETED = "PodDeleted"
    POD_FAILED = "PodFailed"
    AGENT_LOST = "AgentLost"
    NODE_NOT_AVOIDED = "NodeNotAvoided"  # a run avoids so many that one more finds no room in its list
    NODE_DRAINING = "NodeDraining"  # it is cordoned, its end was announced, or its object is gone
    CONFIG_REFUSED = "ConfigRefused"
    CHECKPOINT_COMMITTED = "CheckpointCommitted"
    WITHIN_BUDGET = "WithinBudget"
    BUDGET_NEARLY_SPENT = "BudgetNearlySpent"
    BUDGET_EXCEEDED = "BudgetExceeded"
    SPENDING_UNKNOWN = "SpendingUnknown"
    PRICE_UNKNOWN = "PriceUnknown"
    ENERGY_UNKNOWN = "EnergyUnknown"
    FINAL_STATUS_LOST = "FinalStatusLost"  # the run was deleted before the API had its final status
