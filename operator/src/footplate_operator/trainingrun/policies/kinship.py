"""Which run may give what to another one: by their stages, and by the shapes of their models.

The operator sees what specs say. Of a model that came from a folder it knows what was stated beside it;
ranks compare the rest, before they load anything.
"""

from __future__ import annotations

from typing import Final

from footplate_contracts.families import resolve_model
from footplate_contracts.v1alpha1.model import Model
from footplate_contracts.v1alpha1.references import ReferenceField
from footplate_contracts.v1alpha1.training import Stage
from footplate_operator.trainingrun.run import Run
from footplate_planning.agreement import agreed

# Which stages have weights to begin with, or to keep near to: those of a language model.
_LANGUAGE: Final = frozenset({Stage.PRETRAIN, Stage.SFT, Stage.DPO, Stage.PPO, Stage.GRPO})
_GIVERS: Final[dict[ReferenceField, frozenset[Stage]]] = {
    ReferenceField.INIT_FROM: _LANGUAGE,
    ReferenceField.PREFERENCE: _LANGUAGE,
    ReferenceField.REWARD: frozenset({Stage.REWARD}),
    ReferenceField.REINFORCEMENT: _LANGUAGE,
    ReferenceField.VALUE: frozenset({Stage.REWARD}),
    ReferenceField.DATA: frozenset({Stage.GENERATE}),
}


def misfit(run: Run, field: ReferenceField, other: Run) -> str:
    """Why `other` cannot give what `field` of `run` asks of it; empty where it can, as far as specs tell."""
    givers = _GIVERS[field]
    if field is ReferenceField.INIT_FROM and run.spec.stage is Stage.REWARD:
        givers |= {Stage.REWARD}
    if other.spec.stage not in givers:
        return f"its stage is {other.spec.stage}, and {field} takes one of {', '.join(sorted(givers))}"
    if field is ReferenceField.DATA:
        output = other.spec.rollout.output if other.spec.rollout is not None else None
        return "" if output is not None else "it has no rollout.output"
    if field is ReferenceField.INIT_FROM and run.spec.model is not None:
        return _other_shape(run.spec.model, other)
    return ""


def _other_shape(stated: Model, other: Run) -> str:
    """What `stated` says otherwise than the model of `other`, where the spec of that has all of it."""
    theirs = other.spec.model
    if theirs is None or other.spec.init_from is not None:
        return ""
    try:
        agreed(stated, resolve_model(theirs))
    except ValueError as error:
        return str(error)
    return ""
