"""Directives of a run's coordinator: the part of the spec that applies while ranks train. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic.alias_generators import to_camel

from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.directives import (
    LIMIT_FIELDS,
    Command,
    Directives,
    GoneWorker,
    HangTimeouts,
    Limits,
    later_directives,
    limit_values,
    promoted_steps,
)
from footplate_contracts.runconfig import require_model, resolve_steps
from footplate_contracts.v1alpha1.resilience import Hang
from footplate_operator.trainingrun.run import Run

# Fields of the spec, by the directive that says them.
SPEC_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "nodes": frozenset({"compute.nodes", "compute.maxNodes"}),
    "min_nodes": frozenset({"compute.minNodes"}),
    "hang": frozenset(f"resilience.hang.{to_camel(name)}" for name in HangTimeouts.model_fields),
    "limits": frozenset(LIMIT_FIELDS),
    "command": frozenset({"suspend"}),
}
_KEPT_BY_THE_OPERATOR: Final = frozenset({"checkpoint.emergencyDeadlineSeconds"})


def directives(
    run: Run,
    command: Command = Command.NONE,
    gone: Sequence[GoneWorker] = (),
    domains: Mapping[str, str] | None = None,
) -> Directives:
    """Return the gang that `run` should have now.

    Args:
        gone: workers that Kubernetes misses.
        domains: topology domain by node, of a gang that is packed.
    """
    return Directives(
        nodes=run.spec.compute.nodes,
        min_nodes=run.spec.compute.min_nodes,
        hang=HangTimeouts.from_json((run.spec.resilience.hang or Hang()).to_json()),
        limits=limits(run),
        command=command,
        gone=list(gone) or None,
        domains=dict(domains) if domains else None,
    )


def limits(run: Run) -> Limits:
    """Return the run's length and the intervals of its checkpoints.

    Raises ValueError for a spec that says neither, or has no model: admission refuses it first.
    """
    steps = resolve_steps(run.spec.training, require_model(run.spec).context_length)
    kept = sorted({*(promoted_steps(run.spec.checkpoint) or ()), *run.kept_steps})
    return Limits(steps=steps, kept_steps=kept or None, **limit_values(run.spec))


def initial_directives(run: Run) -> Directives:
    """The directives for a coordinator that has not heard yet how far the ranks are.

    A length that was refused as lying in the past must not come into force with it.
    """
    wanted, held, progress = directives(run), limits(run), run.status.progress
    if progress is None or held.steps >= progress.step:
        return wanted
    steps = max(progress.total_steps, progress.step)
    return wanted.model_copy(update={"limits": held.model_copy(update={"steps": steps})})


def find_unsent(wanted: Directives, state: CoordinatorState) -> Directives | None:
    """`wanted`, if the coordinator should be told; None where it was told that last, or says nothing of it.

    A command is given to a coordinator that is not heard, too: a run that is
    suspended shall not wait for a long-poll.
    """
    if state.directives is None:
        return wanted if wanted.command is not Command.NONE else None
    return wanted if state.directives != _as_heard(wanted, state) else None


def _as_heard(wanted: Directives, state: CoordinatorState) -> Directives:
    """Return `wanted` as this coordinator reads it: one of an earlier release ignores later directives."""
    update: dict[str, Any] = {}
    for directive in later_directives(type(wanted)):
        section, _, name = directive.path.partition(".")
        value = update.get(section, getattr(wanted, section))
        if directive.path not in state.knows and value is not None:
            update[section] = value.model_copy(update={name: None}) if name else None
    return wanted.model_copy(update=update)


def size_refusal(wanted: Directives, state: CoordinatorState) -> str:
    """Return why the coordinator refuses the size in `wanted`; empty if it does not."""
    return _refusal(wanted, state, "nodes", "min_nodes")


def length_refusal(wanted: Directives, state: CoordinatorState) -> str:
    """Return why the coordinator refuses the length in `wanted`; empty if it does not."""
    return _refusal(wanted, state, "limits")


def _refusal(wanted: Directives, state: CoordinatorState, *fields: str) -> str:
    """Return the first refusal among `fields`, if the coordinator has received them as in `wanted`."""
    told, wanted = state.directives, _as_heard(wanted, state)
    if any(getattr(told, field, None) != getattr(wanted, field) for field in fields):
        return ""
    return next((state.refusals[field] for field in fields if field in state.refusals), "")


def live_fields(state: CoordinatorState, document: type[Directives] = Directives) -> frozenset[str]:
    """Return the fields of the spec whose change needs no resumption.

    A coordinator of an earlier release stays until the run is resumed; it takes no directives, or ignores
    the later ones.
    """
    live = _KEPT_BY_THE_OPERATOR.union(*SPEC_FIELDS.values())
    later = {directive.spec: directive.path for directive in later_directives(document) if directive.spec}
    if not state.is_received:
        return live.union(later)
    if state.directives is None:
        return _KEPT_BY_THE_OPERATOR
    return (live | later.keys()) - {spec for spec, path in later.items() if path not in state.knows}
