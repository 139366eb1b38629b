"""Swagger UI page of the OpenAPI document, served with all that it loads.

FastAPI's own page loads its scripts from a content delivery network: they would run with this API's origin,
and a cluster without internet has none. The files in swagger-ui/ are those of a released package, with their
licences; only tools/vendor.py updates them. Of the maintained pages Swagger UI is the smallest (1.9 MB, 0.5
MB packed) that loads nothing from elsewhere: Redoc shows a logo from a network, RapiDoc fonts, Scalar has
twice the size.

The policy lets the page load nothing from other origins; pictures inside its style sheet
are `data:` addresses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse

HERE: Final = Path(__file__).resolve().parent
POLICY: Final = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "max-age=600",
}
FILES: Final = {
    "/docs": (HERE / "index.html", "text/html"),
    "/docs/start.js": (HERE / "start.js", "text/javascript"),
    "/docs/swagger-ui-bundle.js": (HERE / "swagger-ui" / "swagger-ui-bundle.js", "text/javascript"),
    "/docs/swagger-ui.css": (HERE / "swagger-ui" / "swagger-ui.css", "text/css"),
}
"""Where a file is served -> the file and its media type."""

router = APIRouter(include_in_schema=False)


def _serving(file: Path, media_type: str) -> Callable[[], Awaitable[FileResponse]]:
    async def serve() -> FileResponse:
        return FileResponse(file, media_type=media_type, headers=HEADERS)

    return serve


for place, (file, media_type) in FILES.items():
    router.add_api_route(place, _serving(file, media_type), response_class=FileResponse)
