"""The files that the chart brings for Prometheus and Grafana, by name."""

from __future__ import annotations

import json
from typing import Final

from tools.monitoring.board import Board
from tools.monitoring.dashboards import control_plane, costs, fleet, run

BOARDS: Final[tuple[Board, ...]] = (fleet.BOARD, run.BOARD, costs.BOARD, control_plane.BOARD)


def dashboards() -> dict[str, str]:
    """Each dashboard's JSON, by the name of its file."""
    return {f"{board.uid}.json": json.dumps(board.json(), indent=1) + "\n" for board in BOARDS}
