"""A real PostgreSQL for the length of a test session, on a Unix socket in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_SECONDS = 30.0
_SPARING = ("fsync=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0")
_EMPTIED = ("-c", "DROP SCHEMA public CASCADE", "-c", "CREATE SCHEMA public")
# Where the database was changed otherwise than by rows it has to be made anew. Of a table that was never
# written there is no block; rows that are for good, and what a planner knows of them, go here all the same.
_MEMORY = """
CREATE SCHEMA memory;
CREATE TABLE memory.altered (by TEXT);
CREATE FUNCTION memory.note() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO memory.altered VALUES (tg_tag); END $$;
CREATE FUNCTION memory.emptied() RETURNS boolean LANGUAGE plpgsql SET session_replication_role = replica AS $$
DECLARE written regclass[];
BEGIN
    IF EXISTS (SELECT FROM memory.altered) THEN RETURN false; END IF;
    SELECT array_agg(oid::regclass) INTO written FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND pg_relation_size(oid) > 0;
    EXECUTE 'TRUNCATE ' || array_to_string(written, ', ') || ' CASCADE';
    DELETE FROM pg_statistic WHERE starelid = ANY (written);
    RETURN true;
END $$;
CREATE EVENT TRIGGER noted ON ddl_command_end EXECUTE FUNCTION memory.note();
CREATE EVENT TRIGGER dropped ON sql_drop EXECUTE FUNCTION memory.note();
"""


def programs() -> Path:
    """The newest installed server; the distribution's package is called `postgresql`."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        raise FileNotFoundError("no PostgreSQL under /usr/lib/postgresql: install the package postgresql")
    return found[-1]


def _as_unprivileged() -> dict[str, Any]:
    """Arguments of Popen: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("postgres")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


class Server:
    """A running server with one database."""

    def __init__(self, folder: Path, binaries: Path, durable: bool) -> None:
        self._folder = folder
        self._binaries = binaries
        self._durable = durable
        self._process: subprocess.Popen[Any] | None = None

    def start(self) -> None:
        """Starts the server, again after stop(), and waits until it answers."""
        command: list[str | Path] = [
            self._binaries / "postgres",
            "-D",
            self._folder / "data",
            "-k",
            self._folder,
        ]
        settings = [
            "listen_addresses=",
            "client_min_messages=warning",
            "shared_buffers=16MB",
            "max_connections=50",
            *(() if self._durable else _SPARING),
        ]
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(
            [*command, *(part for setting in settings for part in ("-c", setting))],
            stdout=log,
            stderr=log,
            **_as_unprivileged(),
        )
        log.close()
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run([self._binaries / "pg_isready", "-q", "-h", self._folder]).returncode:
            if time.monotonic() > deadline:
                raise TimeoutError(f"PostgreSQL does not answer: {(self._folder / 'log').read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stops the server as a power cut would, only sparing its files."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)  # "immediate shutdown": no checkpoint, connections drop
        self._process.wait(timeout=20)

    @contextmanager
    def away(self) -> Iterator[None]:
        """It is stopped for the block, and is there for the next test whatever that raises."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self._folder / ".s.PGSQL.5432"

    def empty(self) -> str:
        """The URL of the database, with nothing in it."""
        self._psql(*_EMPTIED)
        return self._url

    def remember(self) -> None:
        """Keeps what the database holds now for `remembered`; once."""
        program = self._binaries / "pg_dump"
        command = [program, "--no-owner", "--inserts", "-h", self._folder, "-U", "footplate", "postgres"]
        dumped = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self._whole.write_text(f"{dumped}\nDELETE FROM memory.altered;\n")
        rows = [
            line for line in dumped.splitlines() if line.startswith(("INSERT", "SELECT pg_catalog.setval"))
        ]
        emptied = ["SELECT memory.emptied() \\gset", "\\echo :emptied", "\\if :emptied", *rows, "\\endif", ""]
        self._rows.write_text("\n".join(emptied))
        self._psql("-c", _MEMORY)

    def remembered(self) -> str:
        """The URL of the database, as it was when it was remembered.

        CREATE DATABASE with a template writes three hundred files, and takes as long as our migrations; all
        tables take a tenth of a second of a core, those with rows a tenth of that.
        """
        if self._psql("-f", self._rows).strip() != "t":
            self._psql(*_EMPTIED, "-f", self._whole)
        return self._url

    @property
    def _whole(self) -> Path:
        """Statements that make the remembered database in an empty one."""
        return self._folder / "whole.sql"

    @property
    def _rows(self) -> Path:
        """Those that bring its rows again where tables are as they were; they say whether."""
        return self._folder / "rows.sql"

    @property
    def _url(self) -> str:
        return f"postgresql://footplate@/postgres?host={self._folder}"

    def _psql(self, *what: str | Path) -> str:
        """What `\\echo` says; in one transaction."""
        quiet = ("-X", "-q", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", "--single-transaction")
        command: list[str | Path] = [self._binaries / "psql", *quiet, "-h", self._folder]
        done = subprocess.run(
            [*command, "-U", "footplate", *what, "postgres"], check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout


@contextmanager
def server(durable: bool = False) -> Iterator[Server]:
    """Runs a server for the block; one that is `durable` waits for the disk as in production."""
    binaries, account = programs(), _as_unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="footplate-pg-"))  # short: socket paths end at 107 bytes
    try:
        if account:
            os.chown(folder, account["user"], account["group"])
        initialise: list[str | Path] = [
            binaries / "initdb",
            "-D",
            folder / "data",
            "-U",
            "footplate",
            "-A",
            "trust",
            "--no-sync",
        ]
        subprocess.run([*initialise, "-E", "UTF8"], check=True, stdout=subprocess.DEVNULL, cwd="/", **account)
        running = Server(folder, binaries, durable)
        running.start()
        try:
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
