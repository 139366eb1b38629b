"""The token that a sender of telemetry shows, and the certificates by which it knows the API."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import aiohttp
from aiohttp.test_utils import TestServer

from footplate_elastic.coordinator.telemetry import TelemetryBuffer
from footplate_elastic.coordinator.telemetry_sender import TelemetrySender
from tests.component.footplate_elastic.coordinator.test_shipping import (
    G1,
    FakeApi,
    all_stored,
    encrypted,
    shipper,
)
from tests.support.certificates import any_credentials
from tests.unit.footplate_elastic.coordinator.story import agent
from tests.unit.footplate_elastic.coordinator.test_telemetry import items


async def test_each_batch_shows_the_token_that_the_kubelet_wrote_last(tmp_path: Path) -> None:
    api, buffer, token_file = FakeApi(), TelemetryBuffer(keep=True), tmp_path / "token"
    async with encrypted(api, tmp_path) as (url, certificate):
        ships = shipper(buffer, url, token_file, certificate)
        for number, token in enumerate([None, "the-first\n", "the-second", ""], start=1):
            if token is not None:
                token_file.write_text(token)
            buffer.add_items(agent(0), items(number, number), 1, G1)
            await ships.flush(30.0)
        assert api.tokens == [None, "Bearer the-first", "Bearer the-second", None]
        assert sorted(api.rows) == [1, 2, 3, 4]


async def test_an_api_that_cannot_prove_who_it_is_gets_neither_token_nor_rows(tmp_path: Path) -> None:
    recording, buffer, token_file = FakeApi(), TelemetryBuffer(keep=True), tmp_path / "token"
    token_file.write_text("secret")
    other = tmp_path / "other.crt"
    other.write_bytes(any_credentials("localhost").certificate)
    async with encrypted(recording, tmp_path) as (url, _):
        ships = shipper(buffer, url, token_file, other)
        buffer.add_items(agent(0), items(1, 3), 1, G1)
        async with aiohttp.ClientSession() as session:
            assert await ships.send_batch(session) is not None  # to be sent again
    assert recording.tokens == [] and len(buffer) == 3


async def test_a_renewed_bundle_is_taken_while_it_runs(tmp_path: Path) -> None:
    """Until it is known who vouches for the API, rows wait; and nothing has to be restarted then."""
    api, buffer, bundle = FakeApi(), TelemetryBuffer(keep=True), tmp_path / "ca.crt"
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    async with encrypted(api, first) as (url, certificate):
        ships = shipper(buffer, url, authorities=bundle)
        async with aiohttp.ClientSession() as session:
            buffer.add_items(agent(0), items(1, 1), 1, G1)
            for wrong in (None, b"", b"no certificate", b"\xff"):
                if wrong is not None:
                    bundle.write_bytes(wrong)
                assert await ships.send_batch(session) is not None and len(buffer) == 1
            bundle.write_bytes(certificate.read_bytes())
            assert await ships.send_batch(session) is None
            async with encrypted(api, second) as (other, renewed):
                again = TelemetrySender(buffer, replace(ships.destination, url=other), random.Random(0))
                buffer.add_items(agent(0), items(2, 2), 1, G1)
                assert await again.send_batch(session) is not None and sorted(api.rows) == [1]
                bundle.write_bytes(certificate.read_bytes() + renewed.read_bytes())
                assert await again.send_batch(session) is None and sorted(api.rows) == [1, 2]


async def test_rows_are_sent_though_the_bundle_was_deleted_with_the_run(tmp_path: Path) -> None:
    api, buffer = FakeApi(), TelemetryBuffer(keep=True)
    async with encrypted(api, tmp_path) as (url, certificate):
        ships = shipper(buffer, url, authorities=certificate)
        running = asyncio.create_task(ships.run())
        await asyncio.sleep(0)  # it begins, and has nothing to send
        certificate.unlink()
        buffer.add_items(agent(0), items(1, 2), 1, G1)
        ships.wake()
        await all_stored(buffer)
        running.cancel()
    assert sorted(api.rows) == [1, 2]


async def test_no_token_travels_in_clear(tmp_path: Path) -> None:
    api, buffer, token_file = FakeApi(), TelemetryBuffer(keep=True), tmp_path / "token"
    token_file.write_text("secret")
    server = TestServer(api.application())
    await server.start_server()
    buffer.add_items(agent(0), items(1, 3), 1, G1)
    await shipper(buffer, str(server.make_url("/telemetry")), token_file).flush(30.0)
    assert (sorted(api.rows), api.tokens) == ([1, 2, 3], [None])
    await server.close()
