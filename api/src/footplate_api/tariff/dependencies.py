"""FastAPI dependency of routes that need prices and intensities."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from footplate_api.tariff.service import TariffReader


def tariffs(request: Request) -> TariffReader:
    """Return the reader of prices and intensities of the application that serves `request`."""
    found = request.app.state.tariffs
    assert isinstance(found, TariffReader)
    return found


Pricing = Annotated[TariffReader, Depends(tariffs)]
