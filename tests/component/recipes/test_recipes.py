"""The recipes of CONTRIBUTING.md work, and a test finds each step that is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.recipes import NAMES, ROOT, Checkout, Recipe

EVERY_STEP = [
    pytest.param(name, number, id=f"{name}-{number + 1}")
    for name in NAMES
    for number in range(len(Recipe.read(name).steps))
]


@pytest.mark.parametrize("name", NAMES)
def test_the_named_tests_pass_after_all_steps(tmp_path: Path, name: str) -> None:
    recipe, checkout = Recipe.read(name), Checkout.copy(tmp_path)
    recipe.apply(tmp_path)
    if recipe.generates:
        generated = checkout.generate()
        assert generated.returncode == 0, generated.stderr
    tested = checkout.test(recipe.tests)
    assert tested.returncode == 0, tested.stdout


@pytest.mark.long
@pytest.mark.parametrize(("name", "omitted"), EVERY_STEP)
def test_a_step_that_is_left_out_is_found(tmp_path: Path, name: str, omitted: int) -> None:
    recipe, checkout = Recipe.read(name), Checkout.copy(tmp_path)
    recipe.apply(tmp_path, without=omitted)
    if recipe.generates and checkout.generate().returncode:
        return
    tested = checkout.test(recipe.tests)
    assert tested.returncode in (1, 2), tested.stdout  # a test failed, or cannot be imported


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in NAMES if Recipe.read(name).generates])
def test_what_is_not_generated_anew_is_found(tmp_path: Path, name: str) -> None:
    Recipe.read(name).apply(tmp_path := Checkout.copy(tmp_path).path)
    checked = Checkout(tmp_path).generate("--check")
    assert checked.returncode == 1 and "is out of date" in checked.stderr


@pytest.mark.parametrize("name", NAMES)
def test_contributing_links_the_recipe(name: str) -> None:
    assert f"(tests/recipes/{name}.md)" in (ROOT / "CONTRIBUTING.md").read_text()
