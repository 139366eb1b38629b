"""Tables of the database, one file per aggregate; importing this package registers all of them."""

from footplate_api.models import audit, installation, metric, run, tariff, usage
from footplate_api.models.base import Base

__all__ = ["Base", "audit", "installation", "metric", "run", "tariff", "usage"]
