"""Reads of a run's samples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from footplate_api.db.database import ReadSession
from footplate_api.metrics import history, sample_storage, step_ranges
from footplate_api.metrics import repository as metrics
from footplate_api.models.metric import StepSample
from footplate_api.registry import lookup
from footplate_api.samples import repository
from footplate_api.samples.schemas import SampleItem, SampleList, SampleQuery, StepSamples


async def list_samples(session: ReadSession, namespace: str, name: str, query: SampleQuery) -> SampleList:
    """Return a page of a run's samples, newest step first; raises RunNotFound.

    As with rows, samples of an abandoned branch are left out.
    """
    run = await lookup.find(session, namespace, name, query.uid, query.former_namespaces)
    segments = (await metrics.segments(session, [run.uid])).get(run.uid, [])
    chosen = step_ranges.effective_ranges(segments)
    if query.step is not None:
        chosen = history.clipped(chosen, query.step, query.step)
    elif query.before is not None:
        chosen = history.clipped(chosen, 0, query.before - 1)
    spans = [(part.segment.id, part.first, part.last) for part in chosen]
    places = await repository.steps(session, spans, query.prompt, query.limit + 1)
    page = places[: query.limit]
    found = await repository.of_steps(session, page, query.prompt)
    generations = {known.id: f"{known.epoch}.{known.number}" for known in segments}
    return SampleList(
        run_uid=run.uid,
        items=[
            _items(step, generations[segment], list(rows))
            for (step, segment), rows in groupby(found, attrgetter("step", "segment_id"))
        ],
        next_cursor=str(page[-1][1]) if len(places) > query.limit else None,
    )


def _items(step: int, generation: str, rows: Sequence[StepSample]) -> StepSamples:
    return StepSamples(step=step, generation=generation, samples=[_item(row) for row in rows])


def _item(row: StepSample) -> SampleItem:
    return SampleItem(
        prompt=row.prompt,
        sibling=row.sibling,
        prompt_text=row.prompt_text,
        answer_text=row.answer_text,
        tokens=row.tokens,
        end=row.end_reason,
        rewards=sample_storage.rewards(row.rewards),
        reward=row.reward,
        advantage=row.advantage,
    )
