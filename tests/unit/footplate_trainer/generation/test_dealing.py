"""Which copy answers which requests."""

from __future__ import annotations

import pytest

from footplate_trainer.generation.requests import GenerationRequest, partition_requests


def requests(prompts: int, siblings: int) -> list[GenerationRequest]:
    return [
        GenerationRequest(prompt, sibling, [1], 2) for prompt in range(prompts) for sibling in range(siblings)
    ]


@pytest.mark.parametrize(
    ("prompts", "siblings", "copies"), [(5, 1, 2), (8, 4, 4), (1, 6, 4), (2, 1, 3), (0, 1, 2)]
)
def test_each_request_is_dealt_once_and_all_get_about_equally_many(
    prompts: int, siblings: int, copies: int
) -> None:
    asked = requests(prompts, siblings)
    dealt = partition_requests(asked, copies)

    assert [request for hand in dealt for request in hand] == asked
    assert len(dealt) == copies and max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_siblings_stay_together_where_there_are_prompts_enough() -> None:
    for hand in partition_requests(requests(8, 4), 4):
        assert len({request.prompt for request in hand}) == 2
