"""The page at /docs is whole with nothing but this API: it loads nothing from elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath

import pytest
from tools import vendor

from footplate_api.page import FILES
from tests.component.footplate_api.conftest import Api

pytestmark = pytest.mark.any_database

FOREIGN = r"""["'`]?\s*(?:https?:)?//[\w.-]+\.\w"""
# What makes a browser fetch something: in HTML, in a style sheet, in a script.
LOADS = re.compile(
    rf"(?:\b(?:src|href|action|poster|data|srcset)\s*=\s*|\burl\(\s*|@import\s+"
    rf"|\b(?:fetch|import|importScripts|Worker|SharedWorker|WebSocket|EventSource|sendBeacon)\(\s*"
    rf"|\.(?:src|href)\s*=\s*|\.open\(\s*[\"']\w+[\"']\s*,\s*){FOREIGN}",
    re.IGNORECASE,
)
COMMENTS = re.compile(r"/\*.*?\*/", re.DOTALL)


@pytest.mark.parametrize("place", sorted(FILES))
async def test_the_page_and_what_it_loads_name_no_other_host(api: Api, place: str) -> None:
    answer = await api.client.get(place)
    assert answer.status_code == 200
    assert LOADS.findall(COMMENTS.sub("", answer.text)) == []


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example.com/x.js"></script>',
        "<link rel=icon href=//cdn.example.com/x.png>",
        "@import 'https://fonts.example.com/x.css'",
        "a{background:url(https://example.com/x.png)}",
        'fetch("https://example.com/x")',
        'new Worker("https://example.com/x")',
        'e.src="https://example.com/x"',
        'r.open("GET","https://example.com/x")',
    ],
)
def test_what_would_be_loaded_is_recognised(text: str) -> None:
    assert LOADS.search(text)


async def test_all_that_the_page_loads_is_served_and_of_its_kind(api: Api) -> None:
    html = (await api.client.get("/docs")).text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert set(FILES) - {"/docs"} == {f"/{place}" for place in loaded if place.startswith("docs/")}
    kinds = {".js": "text/javascript", ".css": "text/css", ".json": "application/json"}
    for place in (place for place in loaded if not place.startswith("data:")):
        answer = await api.client.get(f"/{place}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kinds[PurePosixPath(place).suffix])


async def test_the_page_asks_for_this_apis_document_and_for_no_verdict_on_it(api: Api) -> None:
    script = (await api.client.get("/docs/start.js")).text
    assert 'url: "openapi.json"' in script and "validatorUrl: null" in script
    bundle = (await api.client.get("/docs/swagger-ui-bundle.js")).text
    # Were it not null, the page would show a picture from there.
    assert set(re.findall(r'validatorUrl:(?:void 0===\w\?)?"([^"]+)"', bundle)) == {
        "https://validator.swagger.io/validator"
    }


@pytest.mark.parametrize("place", sorted(FILES))
async def test_a_browser_is_told_to_load_nothing_else(api: Api, place: str) -> None:
    headers = (await api.client.get(place)).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["object-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert not re.search(r"unsafe|\*|https?:", headers["content-security-policy"])
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("place", ["/redoc", "/docs/oauth2-redirect", "/docs/LICENSE", "/docs/..%2fapp.py"])
async def test_there_is_one_page_and_nothing_beside_its_files(api: Api, place: str) -> None:
    answer = await api.client.get(place)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_the_vendored_files_are_those_of_the_package() -> None:
    manifest = json.loads(vendor.MANIFEST.read_text())
    assert manifest["files"] == vendor.checksums(vendor.FOLDER)
    assert (manifest["package"], manifest["license"]) == (vendor.PACKAGE, vendor.LICENSE)
    assert "Apache License" in (vendor.FOLDER / "LICENSE").read_text()
    assert {path.name for path in vendor.FOLDER.iterdir()} == {*vendor.FILES, vendor.MANIFEST.name}
