"""Admits runs: chooses the revision and credentials of their pods, from the current or the frozen profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from footplate_contracts.names import Reason, Role, WorkerId
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec, Scheduling
from footplate_contracts.v1alpha1.references import LineageEntry
from footplate_operator.errors import AlreadyExists, ClusterError
from footplate_operator.keys.credentials import RunCredentials
from footplate_operator.keys.keyring import CredentialSource
from footplate_operator.profiles import ProfileCache
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.runtime.kinds import POD
from footplate_operator.trainingrun.manifests import worker
from footplate_operator.trainingrun.manifests.pod import security_context
from footplate_operator.trainingrun.metadata import certificate_names
from footplate_operator.trainingrun.node_cache import NodeCache
from footplate_operator.trainingrun.observation import PodView
from footplate_operator.trainingrun.policies import overrides, pod_refusals, reward_secrets
from footplate_operator.trainingrun.policies.profile import list_changed_fields, refusal
from footplate_operator.trainingrun.reference_index import ReferenceIndex
from footplate_operator.trainingrun.revision import (
    AnyRevision,
    Defaults,
    MissingRevision,
    Revision,
    RevisionData,
    admit,
    find_revision,
    frozen_lineage,
    needs_admission,
    resolved_config,
)
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.run_cache import RunCache

_GOES_ON: Final = "the run continues as admitted, and cannot be resumed until this is fixed"


@dataclass(frozen=True)
class Admission:
    """Admission of all runs; `release` is the version of this operator's build."""

    cluster: Cluster
    profiles: ProfileCache
    nodes: NodeCache
    chains: ReferenceIndex
    defaults: Defaults
    keys: CredentialSource
    release: str

    async def admitted(
        self, run: Run, cache: RunCache, revisions: Sequence[AnyRevision], suspends: bool
    ) -> AnyRevision | MissingRevision | ReconcileProblem | None:
        """Return the revision of the run's pods, or the problem that prevents its admission.

        Return None if its profile is missing, or if a suspended run still has to wait for other runs. Raise
        ClusterError.
        """
        admits = needs_admission(run, suspends)
        if not admits:
            known = cache.revision
            if known is not None and known.name(run.name) == run.status.revision:
                return known
            if (found := find_revision(run, revisions)) is not None:
                cache.revision = found if isinstance(found, Revision) else None
                return found
            if run.has_gang:
                return MissingRevision(run.status.revision or "")
        if admits:
            await self.profiles.ensure_listed(run.spec.compute.profile)
        profile = self.profiles.get(run.spec.compute.profile)
        if profile is None or isinstance(profile, ReconcileProblem):
            return profile
        lineage = await self._lineage(run, revisions, admits)
        if lineage is None or isinstance(lineage, ReconcileProblem):
            return lineage
        defaults = self.defaults.model_copy(update={"run_key": self.keys.current_key_id})
        try:
            admitted = admit(run, profile, defaults, revisions, self.release, lineage)
        except ValueError as error:
            return ReconcileProblem(Reason.CONFIG_REFUSED, str(error)[:1024], final=True)
        wrong = refusal(admitted.frozen.config, run.spec.compute.profile, profile)
        wrong = wrong or overrides.refusal(run, profile) or reward_secrets.refusal(run)
        if admits and wrong:
            return ReconcileProblem(Reason.CONFIG_REFUSED, wrong[:1024])
        if admits and (unknown := self._unknown_topology(run, profile.scheduling)):
            return ReconcileProblem(Reason.TOPOLOGY_UNKNOWN, unknown)
        if admits and (refused := await self._pod_refusal(run, admitted, cache)):
            return ReconcileProblem(Reason.CONFIG_REFUSED, refused[:1024])
        cache.revision = admitted
        return admitted

    def _unknown_topology(self, run: Run, profile: Scheduling) -> str:
        """Return why the placement selects none of the known Nodes; empty if it selects some."""
        compute = run.spec.compute
        scheduling = profile.with_placement(compute.placement)
        key = scheduling.placement_key
        if not key or self.nodes.has_label(key, scheduling):
            return ""
        stated = "compute" if compute.placement else f"compute.profile {compute.profile}: scheduling"
        kind = "pack" if scheduling.pack else "spread"
        return (
            f"{stated}.placement.{kind}.topologyKey {key}: no Node that the profile's nodeSelector selects"
            " has this label; label the Nodes, or name a label that they have"
        )

    async def _pod_refusal(self, run: Run, admitted: Revision, cache: RunCache) -> str:
        """Return why the run's namespace admits no such worker; dry-run once for each admitted revision."""
        frozen, trainer = admitted.frozen, run.spec.trainer
        if cache.tried == (frozen, trainer):
            return ""
        [pod] = worker.pods(run, admitted, Role.WORKER, [WorkerId(0, 0)], "")
        strict = frozen.profile.pod_template is not None
        try:
            await self.cluster.would_create(POD, pod, strict=strict)
        except AlreadyExists:
            pass  # which is found out last
        except ClusterError as error:
            ids = security_context(run, frozen.profile)
            return pod_refusals.refusal(error, run, frozen.profile, ids)
        cache.tried = (frozen, trainer)
        return ""

    async def _lineage(
        self, run: Run, revisions: Sequence[AnyRevision], admits: bool
    ) -> list[LineageEntry] | ReconcileProblem | None:
        """Return the lineage entries frozen for the runs that the spec names, else resolve them on admission.

        Return None if nothing is frozen and the run is not being admitted.
        """
        frozen = frozen_lineage(run, revisions)
        return await self.chains.resolve(run) if frozen is None and admits else frozen

    async def profile_since(
        self, run: Run, cache: RunCache, admitted: AnyRevision | MissingRevision | ReconcileProblem | None
    ) -> ReconcileProblem | list[str]:
        """Return what changed in an admitted run's profile, or the problem that makes it unusable now."""
        name = run.spec.compute.profile
        if run.ended is not None or not isinstance(admitted, Revision) or needs_admission(run, False):
            return []
        if await self.profiles.is_gone(name):
            message = f"compute.profile {name}: the ComputeProfile no longer exists; {_GOES_ON}"
            return ReconcileProblem(Reason.PROFILE_NOT_FOUND, message)
        live, frozen = self.profiles.get(name), admitted.frozen
        if live is None or name != frozen.profile_name:
            return []
        if isinstance(live, ReconcileProblem):
            return ReconcileProblem(live.reason, f"{live.message}; {_GOES_ON}")
        return cache.compared((run.spec, live, frozen), lambda: _became(run, live, frozen))

    def credentials(
        self,
        run: Run,
        cache: RunCache,
        admitted: AnyRevision | MissingRevision | ReconcileProblem | None,
        pods: Sequence[PodView],
    ) -> RunCredentials | None:
        """Return the credentials of a run that has pods or may get some; None if unknown or not needed.

        Raise ClusterError while the installation's key is not read yet.
        """
        if admitted is None or isinstance(admitted, ReconcileProblem) or (run.ended is not None and not pods):
            return None
        key = self.keys.current_key_id if isinstance(admitted, MissingRevision) else admitted.run_key
        if cache.credentials is None or cache.credentials[0] != key:
            found = self.keys.credentials(run.uid, certificate_names(run), run.created, key)
            cache.credentials = None if found is None else (key, found)
        return None if cache.credentials is None else cache.credentials[1]


def _became(run: Run, live: ComputeProfileSpec, frozen: RevisionData) -> ReconcileProblem | list[str]:
    """Compare `live`, the current profile, with the profile of a run that was admitted as `frozen`.

    Return the fields that changed, or the problem if the run could not be admitted with `live`.
    """
    name = frozen.profile_name
    try:
        wrong = refusal(resolved_config(run, live, frozen.config.lineage or ()), name, live)
    except ValueError as error:
        wrong = str(error)
    if wrong:
        return ReconcileProblem(
            Reason.CONFIG_REFUSED, f"ComputeProfile {name} was changed: {wrong}; {_GOES_ON}"
        )
    news = list_changed_fields(frozen.profile, live)
    return [f"compute.profile ({name} was changed: {', '.join(news)})"] if news else []
