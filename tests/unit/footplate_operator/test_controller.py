"""The interface between the machinery and a kind stays small."""

from __future__ import annotations

from inspect import isfunction

from footplate_operator.runtime.controller import Controller


def test_an_author_of_a_kind_reads_at_most_ten_methods() -> None:
    bases = Controller.__mro__[:-2]  # without Generic and object
    defined = [name for base in bases for name, own in vars(base).items() if isfunction(own)]
    assert {"decode", "observe", "desire"} <= set(defined)
    assert len(defined) <= 10, "what few kinds write goes into ControllerHooks"
