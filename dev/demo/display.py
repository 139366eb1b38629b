"""What the demo shows while it waits: one live line, then the loss curve."""

from __future__ import annotations

from typing import Any

import plotext
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

console = Console(highlight=False)


def heading(text: str) -> None:
    """The title of one part of the demo."""
    console.print(f"\n[bold]{text}[/bold]")


def step_bar() -> Progress:
    """A bar with phase, step and loss beside it."""
    return Progress(
        TextColumn("{task.description:<11}"),
        BarColumn(bar_width=40),
        TextColumn("step {task.completed:>4.0f}/{task.total:.0f}  {task.fields[note]}"),
        TimeElapsedColumn(),
        console=console,
        refresh_per_second=4,
    )


def plain_line(status: dict[str, Any]) -> str:
    """The same for a log file: one line."""
    phase = status.get("phase", "Pending")
    progress = status.get("progress") or {}
    if not progress.get("totalSteps"):
        return f"{phase}: no step yet"
    loss = progress.get("loss")
    shown = f" loss {loss:.3f}" if loss is not None else ""
    return f"{phase}: step {progress.get('step', 0)}/{progress['totalSteps']}{shown}"


def loss_curve(steps: list[int], losses: list[float]) -> str:
    """The curve as text, 70 columns wide."""
    plotext.clear_figure()
    plotext.plotsize(78, 18)
    plotext.theme("clear")
    plotext.plot(steps, losses, marker="braille")
    plotext.title("loss (mean over the global batch, before the update)")
    plotext.xlabel("step")
    text: str = plotext.uncolorize(plotext.build())
    return text
