"""The API over TLS: proven to whoever asks, renewed while requests go on, never in clear from a pod."""

from __future__ import annotations

import asyncio
import errno
import operator
import os
import signal
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.machine.ports import claim_ports
from footplate_api.__main__ import GRACE_SECONDS
from footplate_api.http.certificate import Certificate, Files
from footplate_contracts.names import ExitCode
from tests.component.footplate_api.builders import eventually
from tests.component.footplate_api.test_process import once, ready, serving
from tests.support.certificates import Issuer, Volume
from tests.support.review_server import BEARER

LOOK = "0.05"
RENEWALS = 5


def told(volume: Volume) -> dict[str, str]:
    return {
        "FOOTPLATE_TLS_CERTIFICATE_FILE": str(volume / "tls.crt"),
        "FOOTPLATE_TLS_KEY_FILE": str(volume / "tls.key"),
        "FOOTPLATE_TLS_LOOK_SECONDS": LOOK,
    }


def client(port: int, issuer: Issuer, keeps: int = 10) -> httpx.AsyncClient:
    """A client that trusts the issuer, and keeps so many connections."""
    limits = httpx.Limits(max_keepalive_connections=keeps)
    return httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{port}",
        verify=issuer.trusting(),
        headers=BEARER,
        timeout=20,
        limits=limits,
    )


def proven(answer: httpx.Response) -> str:
    """The certificate that an answer came with, in PEM."""
    stream = answer.extensions["network_stream"]
    return ssl.DER_cert_to_PEM_cert(stream.get_extra_info("ssl_object").getpeercert(True))


@asynccontextmanager
async def api(folder: Path, url: str, issuer: Issuer, volume: Volume) -> AsyncIterator[int]:
    """The port of an API that serves with what the volume holds."""
    [port] = claim_ports(1)
    with serving(folder, port, url, **told(volume)):
        async with client(port, issuer) as probe:
            await eventually(lambda: ready(probe), bool, seconds=120)
        yield port


@asynccontextmanager
async def asking(*clients: httpx.AsyncClient) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Each of them asks all the time, and is always answered; what is yielded waits for one more of each."""
    over, answers = asyncio.Event(), dict.fromkeys(clients, 0)

    async def ask(by: httpx.AsyncClient) -> None:
        while not over.is_set():
            assert (await by.get("/v1/namespaces/default/runs")).status_code == 200
            answers[by] += 1

    async def seen() -> list[int]:
        return list(answers.values())

    async def more() -> None:
        before = list(answers.values())
        await eventually(seen, lambda now: all(map(operator.gt, now, before)), seconds=60)

    tasks = [asyncio.create_task(ask(by)) for by in clients]
    try:
        yield more
    finally:
        over.set()
        await asyncio.gather(*tasks)


async def shows(fresh: httpx.AsyncClient, files: Mapping[str, bytes]) -> None:
    """Returns once new connections are shown this certificate."""

    async def shown() -> str:
        return proven(await fresh.get("/healthz"))

    await eventually(shown, lambda seen: seen == files["tls.crt"].decode(), seconds=60)


async def test_renewed_while_requests_go_on_and_none_fails(sqlite_url: str, tmp_path: Path) -> None:
    issuer, volume = Issuer(), Volume(tmp_path / "tls")
    volume.put(issuer.serving())
    async with (
        api(tmp_path, sqlite_url, issuer, volume) as port,
        client(port, issuer) as kept,
        client(port, issuer, keeps=0) as fresh,
        asking(kept, fresh) as more,
    ):
        for _ in range(RENEWALS):
            renewed = issuer.serving()
            volume.put(renewed)
            await shows(fresh, renewed)
            await more()


async def test_a_broken_certificate_is_not_taken_and_the_next_one_is(sqlite_url: str, tmp_path: Path) -> None:
    issuer, volume = Issuer(), Volume(tmp_path / "tls")
    first, other = issuer.serving(), issuer.serving()
    volume.put(first)
    async with api(tmp_path, sqlite_url, issuer, volume) as port, client(port, issuer, keeps=0) as fresh:
        volume.put({"tls.crt": other["tls.crt"], "tls.key": first["tls.key"]})
        for _ in range(3):
            await asyncio.sleep(2 * float(LOOK))
            assert proven(await fresh.get("/healthz")) == first["tls.crt"].decode()
        volume.put(other)
        await shows(fresh, other)


async def test_nothing_is_served_in_clear_or_by_an_old_protocol(sqlite_url: str, tmp_path: Path) -> None:
    issuer, volume = Issuer(), Volume(tmp_path / "tls")
    volume.put(issuer.serving())
    async with api(tmp_path, sqlite_url, issuer, volume) as port:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as clear:
            with pytest.raises(httpx.TransportError):
                await clear.get("/healthz")
        for version in ("-tls1_2", "-tls1_1"):
            asked = [
                "openssl",
                "s_client",
                "-connect",
                f"127.0.0.1:{port}",
                version,
                "-cipher",
                "ALL:@SECLEVEL=0",
            ]
            done = await asyncio.to_thread(
                subprocess.run, asked, stdin=subprocess.DEVNULL, capture_output=True
            )
            assert (done.returncode == 0) == (version == "-tls1_2"), done.stderr
        async with client(port, Issuer()) as distrusting:
            with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                await distrusting.get("/healthz")


async def test_it_ends_at_once_although_somebody_keeps_a_connection_and_does_not_look_at_it(
    sqlite_url: str,
    tmp_path: Path,
) -> None:
    issuer, volume = Issuer(), Volume(tmp_path / "tls")
    volume.put(issuer.serving())
    [port] = claim_ports(1)
    with serving(tmp_path, port, sqlite_url, **told(volume)) as process:
        async with client(port, issuer) as probe:
            await eventually(lambda: ready(probe), bool, seconds=120)
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            assert await asyncio.to_thread(process.wait, 20) == ExitCode.SUCCESS
            assert time.monotonic() - began < GRACE_SECONDS / 2


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        pytest.param({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, "in a pod the API requires TLS", id="pod"),
        pytest.param(
            {"FOOTPLATE_TLS_CERTIFICATE_FILE": "/none/a", "FOOTPLATE_TLS_KEY_FILE": "/none/b"},
            "/none/a and /none/b hold no certificate with a matching key: [Errno 2] No such file",
            id="no-files",
        ),
    ],
)
def test_what_would_serve_in_clear_is_a_sentence(
    tmp_path: Path, variables: dict[str, str], says: str
) -> None:
    code, said = once(tmp_path, 8000, f"sqlite:///{tmp_path}/footplate.db", **variables)
    assert code == ExitCode.CONFIG
    assert says in said and "Traceback" not in said


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    made = Issuer().serving()
    clear, key, certificate = (tmp_path / name for name in ("clear.key", "tls.key", "tls.crt"))
    clear.write_bytes(made["tls.key"])
    certificate.write_bytes(made["tls.crt"])
    encrypt = ["openssl", "pkey", "-in", str(clear), "-aes256", "-passout", "pass:x", "-out", str(key)]
    subprocess.run(encrypt, check=True, capture_output=True)
    with pytest.raises(ValueError, match="the key is encrypted"):
        Certificate(Files(certificate, key))


class Fickle(ssl.SSLContext):
    """A machine that has no room for a moment."""

    had_room = False

    def load_cert_chain(self, *args: Any, **more: Any) -> None:
        self.had_room, had_room = True, self.had_room
        if not had_room:
            raise OSError(errno.EMFILE, "Too many open files")
        super().load_cert_chain(*args, **more)


def test_a_certificate_that_could_not_be_loaded_is_loaded_at_the_next_look(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    issuer, volume = Issuer(), Volume(tmp_path / "tls")
    volume.put(issuer.serving())
    certificate = Certificate(Files(volume / "tls.crt", volume / "tls.key"))
    certificate.context = Fickle(ssl.PROTOCOL_TLS_SERVER)
    volume.put(issuer.serving())
    assert not certificate.refresh() and "Too many open files" in caplog.text
    assert certificate.refresh() and not certificate.refresh()


def test_files_that_are_away_for_a_moment_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    issuer, volume = Issuer(), Volume(tmp_path / "tls")
    volume.put(issuer.serving())
    certificate = Certificate(Files(volume / "tls.crt", volume / "tls.key"))
    (tmp_path / "tls" / "..data").rename(tmp_path / "away")
    assert not certificate.refresh() and not certificate.refresh()
    os.rename(tmp_path / "away", tmp_path / "tls" / "..data")
    assert not certificate.refresh() and len(caplog.records) == 1
    volume.put(issuer.serving())
    assert certificate.refresh() and not certificate.refresh()
