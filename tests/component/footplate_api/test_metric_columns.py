"""Whatever a metric row has reaches the database, the history, the gauges, TensorBoard and the docs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, inspect
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from footplate_api.db.database import Database
from footplate_api.models.metric import MetricRow
from footplate_contracts.metrics import COLUMNS, MetricExport, StepMetrics
from footplate_trainer.metrics.metric_sinks import TensorBoardSink
from tests.component.footplate_api.builders import RUNS, batch, eventually
from tests.component.footplate_api.conftest import Api

KEY = {"segment_id", "further"}
# Each field has a value of its own.
VALUES: dict[str, Any] = {
    column.name: f"digest-{place}" if column.type is str else column.type(place + 1)
    for place, column in enumerate(COLUMNS)
}
ROW = StepMetrics.model_validate(VALUES)
SHOWN: dict[str, MetricExport] = {column.name: column.shown for column in COLUMNS if column.shown is not None}
DOCS = Path(__file__).parents[3] / "docs" / "observability.md"


async def test_the_database_has_a_column_for_each_field(database: Database) -> None:
    def nullable(connection: Connection) -> dict[str, bool]:
        return {
            column["name"]: column["nullable"] for column in inspect(connection).get_columns("metric_rows")
        }

    async with database.engine.connect() as connection:
        migrated = await connection.run_sync(nullable)
    assert (
        set(migrated) == set(MetricRow.__table__.columns.keys()) == KEY | {column.name for column in COLUMNS}
    )
    assert all(migrated[column.name] for column in COLUMNS if column.optional)


async def test_the_history_gives_back_each_field(api: Api) -> None:
    created = (await api.client.post(RUNS, json={"metadata": {"name": "gpt"}, "spec": {}})).json()
    row = {"generation": {"epoch": 1, "number": 2}, "metrics": ROW.to_json()}
    headers = await api.coordinator(created["uid"])
    await api.client.post(f"{RUNS}/gpt/telemetry", json=batch(created["uid"], [row]), headers=headers)
    shown = (await api.client.get(f"{RUNS}/gpt/metrics")).json()
    about = {"runUid": created["uid"], "every": 1, "generation": ["1.2"]}
    assert shown == about | {name: [value] for name, value in ROW.to_json().items()}
    document = (await api.client.get("/openapi.json")).json()
    parameters = document["paths"]["/v1/namespaces/{namespace}/runs/{name}/metrics"]["get"]["parameters"]
    [names] = [known["schema"] for known in parameters if known["name"] == "names"]
    assert set(names["anyOf"][0]["items"]["anyOf"][0]["enum"]) == {"generation"} | set(ROW.to_json()) - {
        "step"
    }


async def test_each_number_but_the_losses_is_a_gauge(api: Api) -> None:
    await api.cluster.put("research", "gpt", metadata={"uid": "uid"}, status={"phase": "Running"})
    row = {"generation": {"epoch": 1, "number": 2}, "metrics": ROW.to_json()}
    headers = await api.coordinator("uid")
    await api.client.post(f"{RUNS}/gpt/telemetry", json=batch("uid", [row]), headers=headers)

    async def exposed() -> dict[tuple[str, ...], float]:
        return {
            (sample.name, *sorted(set(sample.labels.values()) - {"research", "gpt"})): sample.value
            for family in text_string_to_metric_families((await api.client.get("/metrics")).text)
            for sample in family.samples
        }

    samples = await eventually(exposed, lambda samples: ("footplate_run_step",) in samples)
    gauges = {name: shown.gauge for name, shown in SHOWN.items() if shown.gauge is not None}
    assert set(SHOWN) - set(gauges) == {"loss", "validation_loss"}  # the one is in system.service, see docs
    for name, gauge in gauges.items():
        label = (SHOWN[name].value,) if gauge.label else ()
        assert samples[f"footplate_run_{gauge.name}", *label] == VALUES[name]


def test_each_number_is_a_scalar_of_tensorboard(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path, resumed_step=0)
    sink.write(ROW)
    sink.close()
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    written = {tag: board.Scalars(tag)[0].value for tag in board.Tags()["scalars"]}
    assert written == {shown.tag: VALUES[name] for name, shown in SHOWN.items()}
    assert set(SHOWN) == {column.name for column in COLUMNS if column.type is not str} - {"step", "time"}


def section(heading: str) -> str:
    """A part of the documentation."""
    return DOCS.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]


def test_the_docs_name_each_field() -> None:
    table = section("A row")
    assert [column.alias for column in COLUMNS if f"`{column.alias}`" not in table] == []


def test_the_docs_name_each_gauge_and_its_labels() -> None:
    table = section("Prometheus")
    gauges = [shown for shown in SHOWN.values() if shown.gauge is not None]
    assert [shown for shown in gauges if f"`footplate_run_{shown.gauge.name}`" not in table] == []
    assert [shown for shown in gauges if shown.value and f"`{shown.value}`" not in table] == []


def test_a_row_of_the_first_release_is_read() -> None:
    """It has these fields; a later one is optional, or trainers of an earlier image cannot report."""
    first = {"step", "time", "loss", "gradient_norm", "learning_rate", "tokens"}
    required = {column.name for column in COLUMNS if not column.optional}
    assert required == first | {"tokens_per_second", "sample_digest"}
