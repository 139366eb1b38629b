"""One's own loss, named right and wrong."""

from __future__ import annotations

import pytest
import torch

from footplate_trainer.errors import UserMistake
from footplate_trainer.stages.losses import import_function


def test_a_function_is_found_by_its_name() -> None:
    assert import_function("torch.nn.functional:gaussian_nll_loss") is torch.nn.functional.gaussian_nll_loss


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("no_such_package.losses:mine", "no module no_such_package", id="no-module"),
        pytest.param("math:no_such_function", "has no attribute 'no_such_function'", id="no-function"),
        pytest.param("math:pi", "is not a callable object", id="no-callable"),
        pytest.param("os.path:basename", "too many positional arguments", id="other-arguments"),
    ],
)
def test_a_wrong_name_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(UserMistake, match=reason) as refused:
        import_function(name)

    assert f"training.loss.name {name}" in str(refused.value)
