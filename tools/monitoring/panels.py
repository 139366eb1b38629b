"""The kinds of panels that our dashboards are made of, over the SDK of Grafana.

Whoever adds a panel says what it is for: title, description and unit are arguments that have no default. A
description is for somebody who has never seen Footplate: what the number is, and what to do where it is bad.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from string import ascii_uppercase
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from tools.monitoring.expressions import Expression

SOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="$datasource")
MILLISECONDS: Final = 1000  # in a second: Grafana's points in time are in milliseconds
HOUR: Final = 3600  # seconds
KILOWATT_HOUR: Final = 3.6e6  # joules
GOOD, WARNING, BAD, PLAIN = "green", "orange", "red", "text"
Panel = stat.Panel | timeseries.Panel | table.Panel | bargauge.Panel

AnyPanel = TypeVar("AnyPanel", stat.Panel, timeseries.Panel, table.Panel, bargauge.Panel)
Colored = TypeVar("Colored", stat.Panel, bargauge.Panel)


class Unit(StrEnum):
    """As Grafana names them."""

    COUNT = "short"
    PLAIN = "none"
    RATIO = "percentunit"
    SECONDS = "s"
    BYTES = "bytes"
    DOLLARS = "currencyUSD"
    WATTS = "watt"
    KILOWATT_HOURS = "kwatth"
    GRAMS = "massg"
    CELSIUS = "celsius"
    A_SECOND = "cps"
    REQUESTS = "reqps"
    FROM_NOW = "dateTimeFromNow"


@dataclass(frozen=True)
class Limits:
    """From which value on a number has which color, least first; the first has no value."""

    steps: tuple[tuple[float | None, str], ...]

    @classmethod
    def rising(cls, warning: float, bad: float | None = None) -> Limits:
        """Of what is worse the greater it is."""
        worse = () if bad is None else ((bad, BAD),)
        return cls(((None, GOOD), (warning, WARNING), *worse))

    @classmethod
    def falling(cls, warning: float, bad: float) -> Limits:
        """Of what is worse the less it is, below these."""
        return cls(((None, BAD), (bad, WARNING), (warning, GOOD)))

    @classmethod
    def none(cls) -> Limits:
        """Of what should not be there at all."""
        return cls(((None, GOOD), (1, BAD)))

    @classmethod
    def one(cls) -> Limits:
        """Of what should be there once."""
        return cls(((None, BAD), (1, GOOD), (2, BAD)))

    def config(self) -> dashboard.ThresholdsConfig:
        """As Grafana has it."""
        steps = [model.Threshold(value, color) for value, color in self.steps]
        return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


@dataclass(frozen=True)
class Query:
    """What a panel asks, and how a series of the answer is called."""

    expression: Expression
    legend: str = ""


@dataclass(frozen=True)
class Column:
    """Of a table: a number of each row; or, where `label` is said, the value of a label."""

    title: str
    expression: Expression
    unit: Unit = Unit.PLAIN
    limits: Limits | None = None
    label: str = ""
    colors: Mapping[str, str] = field(default_factory=dict)  # of a label's values


def single(
    title: str,
    description: str,
    unit: Unit,
    query: Query,
    *,
    limits: Limits | None = None,
    history: bool = True,
    named: bool = False,
    width: int = 4,
    height: int = 4,
) -> stat.Panel:
    """One number, the newest in the time range.

    Args:
        history: whether it is drawn behind the number; otherwise the end of the range alone is asked for.
        named: show the series' legend instead of its value.
    """
    panel = (
        _about(stat.Panel(), title, description, unit, width, height)
        .with_target(_ranged(query) if history else _now(query))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(options.BigValueGraphMode.AREA if history else options.BigValueGraphMode.NONE)
        .color_mode(options.BigValueColorMode.VALUE)
        .text_mode(options.BigValueTextMode.NAME if named else options.BigValueTextMode.VALUE)
        .no_value("–")
    )
    return _colored(panel, limits)


def trend(
    title: str,
    description: str,
    unit: Unit,
    *queries: Query,
    stacked: bool = False,
    counted: bool = False,
    limits: Limits | None = None,
    top: float | None = None,
    from_zero: bool = True,
    colors: Mapping[str, str] | None = None,
    width: int = 12,
    height: int = 8,
) -> timeseries.Panel:
    """Numbers over time.

    Args:
        stacked: draw them on top of each other, where their sum means something.
        counted: draw bars, on top of each other, where a point says nothing of the time until the next.
        limits: drawn as lines.
        top: where the axis ends.
        from_zero: whether it begins at 0.
        colors: of series, by their legend; others have one that follows from it.
    """
    panel = (
        _about(timeseries.Panel(), title, description, unit, width, height)
        .targets([_ranged(query, place) for place, query in enumerate(queries)])
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .fill_opacity(60 if stacked or counted else 0)
        .line_width(1)
        .show_points(options.VisibilityMode.NEVER)
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI))
        .legend(
            common.VizLegendOptions()
            .display_mode(options.LegendDisplayMode.LIST)
            .placement(options.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs([])
        )
    )
    if counted:
        panel.draw_style(options.GraphDrawStyle.BARS).bar_width_factor(1)
    if stacked or counted:
        panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL).group("A"))
    if limits is not None:
        panel.thresholds(limits.config())
        panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(options.GraphTresholdsStyleMode.DASHED)
        )
    for name, color in (colors or {}).items():
        fixed = model.FieldColor(mode=model.FieldColorModeId.FIXED, fixed_color=color)
        panel.override_by_name(name, [model.DynamicConfigValue("color", fixed)])
    if from_zero:
        panel.min(0)
    return panel if top is None else panel.max(top)


def bars(
    title: str,
    description: str,
    unit: Unit,
    query: Query,
    *,
    limits: Limits | None = None,
    width: int = 8,
    height: int = 8,
) -> bargauge.Panel:
    """Numbers of now beside each other, as bars."""
    panel = (
        _about(bargauge.Panel(), title, description, unit, width, height)
        .with_target(_now(query))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .orientation(options.VizOrientation.HORIZONTAL)
        .display_mode(options.BarGaugeDisplayMode.BASIC)
        .value_mode(options.BarGaugeValueMode.TEXT)
        .show_unfilled(False)
        .min(0)
    )
    return _colored(panel, limits)


def rows(
    title: str,
    description: str,
    unit: Unit,
    keys: Mapping[str, str],
    *columns: Column,
    sort: str,
    links: Mapping[str, str] | None = None,
    width: int = 24,
    height: int = 10,
) -> table.Panel:
    """A table of now: a row for each value of the labels `keys`, under the titles that these have there.

    The queries of its columns have no other labels, but for that which a column shows. `unit` is what numbers
    are in whose column says nothing else. `sort` is the title of the column whose greatest comes first;
    `links` says, by title, where a click leads to.
    """
    targets: list[builder.Builder[variants.Dataquery]] = [
        _now(Query(column.expression), place, as_table=True) for place, column in enumerate(columns)
    ]
    panel = (
        _about(table.Panel(), title, description, unit, width, height)
        .targets(targets)
        .with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(_arranged(keys, columns))
        .sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
        .show_header(True)
        .cell_height(options.TableCellHeight.SM)
    )
    for column in columns:
        panel.override_by_name(column.title, _properties(column))
    for at, url in (links or {}).items():
        link = {"title": "Show", "url": url, "targetBlank": False}
        panel.override_by_name(at, [model.DynamicConfigValue("links", [link])])
    return panel


def _about(panel: AnyPanel, title: str, description: str, unit: Unit, width: int, height: int) -> AnyPanel:
    panel.title(title).description(description).unit(unit).datasource(SOURCE).span(width).height(height)
    return panel


def _colored(panel: Colored, limits: Limits | None) -> Colored:
    panel.thresholds((limits or Limits(((None, PLAIN),))).config())
    panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    return panel


def _query(query: Query, place: int) -> prometheus.Dataquery:
    asked = prometheus.Dataquery().expr(str(query.expression)).ref_id(ascii_uppercase[place])
    return asked.legend_format(query.legend).datasource(SOURCE)


def _ranged(query: Query, place: int = 0) -> prometheus.Dataquery:
    return _query(query, place).range()


def _now(query: Query, place: int = 0, *, as_table: bool = False) -> prometheus.Dataquery:
    shape = PromQueryFormat.TABLE if as_table else PromQueryFormat.TIME_SERIES
    return _query(query, place).instant().format(shape)


def _arranged(keys: Mapping[str, str], columns: Sequence[Column]) -> model.DataTransformerConfig:
    """Columns in their order, under their titles; what else a merged answer has is left out."""
    fields = [
        "Value" if len(columns) == 1 else f"Value #{ascii_uppercase[place]}" for place in range(len(columns))
    ]
    shown = dict(keys)
    hidden = {"Time": True}
    for name, column in zip(fields, columns, strict=True):
        shown[column.label or name] = column.title
        if column.label:
            hidden[name] = True
    order = {name: place for place, name in enumerate(shown)}
    said = {"renameByName": shown, "indexByName": order, "excludeByName": hidden}
    return model.DataTransformerConfig(id_val="organize", options=said)


def _properties(column: Column) -> list[model.DynamicConfigValue]:
    """What a column has that others have not."""
    found = [] if column.label else [model.DynamicConfigValue("unit", column.unit)]
    if column.limits is not None:
        found.append(model.DynamicConfigValue("thresholds", column.limits.config().build()))
    if column.colors:
        results = {
            value: model.ValueMappingResult(text=value, color=color, index=place)
            for place, (value, color) in enumerate(column.colors.items())
        }
        found.append(model.DynamicConfigValue("mappings", [model.ValueMap(results)]))
    if column.limits is not None or column.colors:
        found.append(model.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
    return found
