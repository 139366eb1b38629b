"""FastAPI dependency of routes that need prices and intensities."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from footplate_api.dependencies import of_state
from footplate_api.tariff.service import TariffReader

Pricing = Annotated[TariffReader, Depends(of_state("tariffs", TariffReader))]
