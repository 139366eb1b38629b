"""Checks whether a run may use another one: by their stages, their models and their folders.

The operator compares specs. Of a model that came from a folder it knows only what the spec states;
ranks compare the rest, before they load anything.
"""

from __future__ import annotations

from footplate_contracts.families import resolve_model
from footplate_contracts.stages import STAGES, stages_giving, usable_products
from footplate_contracts.v1alpha1.model import Architecture, Model
from footplate_contracts.v1alpha1.references import GenerateRunReference, ReferenceField, RunReference
from footplate_operator.trainingrun.run import Run
from footplate_planning.model_overrides import apply_overrides


def find_mismatch(
    run: Run, field: ReferenceField, reference: RunReference | GenerateRunReference, other: Run
) -> str:
    """Return why `other` cannot provide what `run` references by `reference` in `field`.

    Empty if it can, as far as specs show.
    """
    usable = usable_products(field, STAGES[run.spec.stage])
    if STAGES[other.spec.stage].product not in usable:
        return f"its stage is {other.spec.stage}, but {field} needs one of {', '.join(stages_giving(usable))}"
    if isinstance(reference, GenerateRunReference):
        output = other.spec.rollout.output if other.spec.rollout is not None else None
        return "" if output is not None else "it has no rollout.output"
    return _same_folder(run, other) or _no_best(reference, other) or _other_model(run, field, other)


def path_of(uri: str) -> str:
    """Return the path of a URI, without `file://` and a trailing slash."""
    return uri.removeprefix("file://").rstrip("/")


def _same_folder(run: Run, other: Run) -> str:
    """Return an error if both runs share a folder: ranks of `run` would find the other run's checkpoints."""
    own = run.spec.checkpoint.uri
    if path_of(own) != path_of(other.spec.checkpoint.uri):
        return ""
    return f"both have checkpoint.uri {own}; each run needs its own folder"


def _no_best(reference: RunReference, other: Run) -> str:
    if reference.checkpoint != "best" or STAGES[other.spec.stage].validates:
        return ""
    return (
        f"a run of stage {other.spec.stage} computes no validation loss, so it has no best checkpoint; set"
        " latest, promoted or a step"
    )


def _other_model(run: Run, field: ReferenceField, other: Run) -> str:
    """Return why the model of `other` does not suit `field`; empty if it does, or the spec is incomplete."""
    if other.spec.model is None or other.spec.init_from is not None:
        return ""
    try:
        theirs = resolve_model(other.spec.model)
    except ValueError:
        return ""
    begins = field is ReferenceField.INIT_FROM
    trains_any = begins and not STAGES[run.spec.stage].decoders_only
    if not trains_any and theirs.architecture is not Architecture.DECODER:
        takes = f"stage {run.spec.stage}" if begins else field
        return f"its model is an {theirs.architecture}, but {takes} needs a decoder"
    return _other_shape(run.spec.model, theirs) if begins and run.spec.model is not None else ""


def _other_shape(stated: Model, theirs: Model) -> str:
    """Return how `stated` contradicts the model of the other run; empty if it does not."""
    try:
        apply_overrides(stated, theirs)
    except ValueError as error:
        return str(error)
    return ""
