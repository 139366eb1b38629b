#!/usr/bin/env python3
"""Pushes the images of a release into a registry, from the folder of the release alone.

    python3 mirror.py registry.example.com:5000
    python3 mirror.py registry.example.com/team --username me --password-stdin < password

Nothing but Python's standard library (3.9 or newer) is needed. What the registry has is not sent again, so
a call that was stopped goes on where it was. The chart finds the images with `--set global.imageRegistry=`
and the registry's name as it is given here.

The protocol is the Distribution Specification 1.1 of the Open Container Initiative: blobs are looked for,
and sent whole; then the manifest is put, by the bytes that its digest is of.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import re
import ssl
import sys
import tarfile
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

SECONDS = 300.0  # without a byte from the registry
TRIES = 3  # of a blob on a connection that breaks
BLOCK = 1 << 20  # bytes at once; http.client's own 8 KiB make a gigabyte slow
RELEASE = "release.json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"  # who does not ask for it finds none
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')

Body = Callable[[], "IO[bytes] | bytes"]  # called again for each try


class MirrorError(Exception):
    """The message is for a person: what was asked, what came back, and what to do."""


@dataclass(frozen=True)
class Answer:
    """What a registry said, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    text: bytes

    @property
    def reason(self) -> str:
        """The registry's own words, in one line."""
        return " ".join(self.text.decode(errors="replace").split())[:300] or "without a word"


@dataclass
class Registry:
    """One registry: its address as an image's name has it, with a path or without."""

    address: str
    tls: ssl.SSLContext | None = None  # None: plain HTTP
    login: str = ""  # user:password
    _authorization: dict[str, str] = field(default_factory=dict)  # by repository

    @property
    def host(self) -> str:
        return self.address.split("/")[0]

    def repository(self, name: str) -> str:
        """The repository of `name` below the address's path."""
        return "/".join([*self.address.split("/")[1:], name])

    def ask(self, method: str, repository: str, url: str, body: Body | None = None, kind: str = "") -> Answer:
        """One request about a repository, made again with credentials where the registry asks for them.

        Raises:
            MirrorError: it does not answer, or takes no credentials of ours.
        """
        for attempt in range(2):
            answer = self._once(method, url, body, kind, self._authorization.get(repository, ""))
            if answer.status != 401:
                return answer
            if attempt == 0:
                challenge = answer.headers.get("WWW-Authenticate", "")
                self._authorization[repository] = self._credentials(challenge, repository)
        raise MirrorError(
            f"{self.host} takes no credentials of {self.login.split(':')[0] or 'nobody'} for {repository}: "
            f"{answer.reason}; give --username and --password-stdin of an account that may push there"
        )

    def _once(self, method: str, url: str, body: Body | None, kind: str, authorization: str) -> Answer:
        target = urllib.parse.urlsplit(urllib.parse.urljoin(f"{self._scheme}://{self.host}", url))
        headers = {"User-Agent": "footplate-mirror", "Accept": f"{MANIFEST}, */*"}
        # A store that uploads are sent on to learns no password, nor does whoever listens to plain HTTP.
        if authorization and (target.scheme, target.netloc) == (self._scheme, self.host):
            headers["Authorization"] = authorization
        content = body() if body else None
        if content is not None:
            headers |= {"Content-Type": kind, "Content-Length": str(_size(content))}
        elif method == "POST":
            headers["Content-Length"] = "0"
        path = urllib.parse.urlunsplit(("", "", target.path, target.query, ""))
        connection = self._connection(target.scheme, target.netloc)
        try:
            try:
                connection.request(method, path, body=content, headers=headers)
            except (BrokenPipeError, ConnectionResetError):
                if content is None:  # whoever hangs up on a body has answered before its end
                    raise
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        except ssl.SSLError as error:
            raise MirrorError(
                f"{target.netloc} has no TLS that we trust: {error}; name its authority with --ca-file, "
                "or say --plain-http where it has none"
            ) from error
        finally:
            connection.close()

    @property
    def _scheme(self) -> str:
        return "https" if self.tls else "http"

    def _connection(self, scheme: str, host: str) -> http.client.HTTPConnection:
        if scheme == "https":
            return http.client.HTTPSConnection(host, timeout=SECONDS, context=self.tls, blocksize=BLOCK)
        return http.client.HTTPConnection(host, timeout=SECONDS, blocksize=BLOCK)

    def _credentials(self, challenge: str, repository: str) -> str:
        """What the registry's 401 asks for: name and password, or a token of the service that it names."""
        scheme, asked = challenge.split(" ")[0].lower(), dict(_CHALLENGE.findall(challenge))
        basic = f"Basic {base64.b64encode(self.login.encode()).decode()}" if self.login else ""
        if scheme != "bearer":
            return basic
        query = urllib.parse.urlencode(
            {"service": asked.get("service", ""), "scope": f"repository:{repository}:pull,push"}
        )
        realm = urllib.parse.urlsplit(asked.get("realm", ""))
        if realm.scheme != "https" and self.tls:
            raise MirrorError(f"{self.host} sends us for a token to {realm.geturl()!r}, which is not https")
        connection = self._connection(realm.scheme, realm.netloc)
        try:
            connection.request(
                "GET", f"{realm.path}?{query}", headers={"Authorization": basic} if basic else {}
            )
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise MirrorError(
                f"{realm.netloc} gives no token for {repository}: {response.status} {text[:300]!r}"
            )
        given = json.loads(text)
        return f"Bearer {given.get('token') or given['access_token']}"


def _size(content: IO[bytes] | bytes) -> int:
    if isinstance(content, bytes):
        return len(content)
    size = content.seek(0, 2)
    content.seek(0)
    return size


def _refused(what: str, answer: Answer) -> MirrorError:
    return MirrorError(
        f"the registry did not take {what}: {answer.status} {answer.reason}; "
        "check the folder with `sha256sum --check SHA256SUMS`, then call this again"
    )


def push_blob(registry: Registry, repository: str, digest: str, body: Body) -> bool:
    """Sends a blob unless the registry has it; whether it was sent.

    Raises:
        MirrorError: it was not taken.
    """
    if registry.ask("HEAD", repository, f"/v2/{repository}/blobs/{digest}").status in (200, 307):
        return False
    for attempt in range(1, TRIES + 1):
        try:
            begun = registry.ask("POST", repository, f"/v2/{repository}/blobs/uploads/")
            if begun.status != 202:
                raise _refused(f"an upload to {repository}", begun)
            place = begun.headers["Location"]
            joint = "&" if "?" in place else "?"
            url = f"{place}{joint}{urllib.parse.urlencode({'digest': digest})}"
            done = registry.ask("PUT", repository, url, body, "application/octet-stream")
            if done.status != 201:
                raise _refused(f"{digest} of {repository}", done)
            return True
        except (OSError, http.client.HTTPException) as error:
            if attempt == TRIES:
                raise MirrorError(
                    f"{registry.host} broke off {TRIES} times: {error}; call this again"
                ) from error
    raise AssertionError("the last try ends with return or raise")


def push_manifest(registry: Registry, repository: str, tag: str, digest: str, manifest: bytes) -> None:
    """Puts a manifest under its tag, and looks that it is there by its digest.

    Raises:
        MirrorError: it was not taken, or is another one now.
    """
    kind = json.loads(manifest)["mediaType"]
    put = registry.ask("PUT", repository, f"/v2/{repository}/manifests/{tag}", lambda: manifest, kind)
    if put.status != 201:
        raise _refused(f"the manifest of {repository}:{tag}", put)
    kept = registry.ask("HEAD", repository, f"/v2/{repository}/manifests/{digest}")
    if kept.status != 200:
        raise _refused(f"the manifest of {repository} as {digest}", kept)


def push_image(registry: Registry, image: dict[str, Any], archive: tarfile.TarFile) -> None:
    """Pushes one image of release.json from its archive, and says what of it was sent.

    Raises:
        MirrorError: the archive has another image, or the registry did not take it.
    """

    def opened(digest: str) -> IO[bytes]:
        found = archive.extractfile(f"blobs/{digest.replace(':', '/')}")
        if found is None:
            raise MirrorError(f"{image['archive']} lacks {digest}: copy the folder again")
        return found

    index = archive.extractfile("index.json")
    digests = [entry["digest"] for entry in json.load(index)["manifests"]] if index else []
    if digests != [image["digest"]]:
        raise MirrorError(f"{image['archive']} has {digests}, and {RELEASE} names {image['digest']}")
    repository = registry.repository(image["repository"])
    manifest = opened(image["digest"]).read()
    document = json.loads(manifest)
    for blob in [*document["layers"], document["config"]]:
        sent = push_blob(registry, repository, blob["digest"], partial(opened, blob["digest"]))
        told = f"{blob['digest'][:19]} {blob['size'] / 1e6:8.1f} MB"
        print(f"{repository}: {told}  {'sent' if sent else 'was there'}", flush=True)
    push_manifest(registry, repository, image["tag"], image["digest"], manifest)
    print(f"{registry.host}/{repository}@{image['digest']}", flush=True)


def mirror(folder: Path, registry: Registry, without: Sequence[str] = ()) -> None:
    """Pushes the images of the release in `folder`, but those whose names are in `without`.

    Raises:
        MirrorError: the folder is none of a release or has no such image, or the registry did not take one.
    """
    try:
        release = json.loads((folder / RELEASE).read_text())
    except OSError as error:
        raise MirrorError(f"{folder} is no release: {error}") from error
    names = [image["name"] for image in release["images"]]
    if strange := sorted(set(without) - set(names)):
        raise MirrorError(f"--without {strange[0]}: the images are {', '.join(names)}")
    pushed = [image for image in release["images"] if image["name"] not in without]
    for image in pushed:
        archive, name = folder / image["archive"], image["name"]
        if not archive.is_file():
            raise MirrorError(f"{archive} is not there: the others are pushed by --without {name}")
    for image in pushed:
        with tarfile.open(folder / image["archive"]) as opened:
            push_image(registry, image, opened)


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], epilog="A proxy's variables are not looked at."
    )
    parser.add_argument(
        "registry", help="its name as in an image's: registry.example.com:5000, or with a path"
    )
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent, help="of the release")
    parser.add_argument(
        "--without", action="append", default=[], metavar="IMAGE", help="is not pushed, such as trainer"
    )
    parser.add_argument("--username")
    parser.add_argument(
        "--password-stdin", action="store_true", help="the password is the first line of stdin"
    )
    parser.add_argument("--ca-file", type=Path, help="authorities of the registry's certificate, as PEM")
    parser.add_argument("--plain-http", action="store_true", help="the registry has no TLS")
    found = parser.parse_args(words)
    if bool(found.username) != found.password_stdin:
        parser.error("--username and --password-stdin go together")
    if "://" in found.registry:
        parser.error(f"{found.registry}: leave the scheme out, as in an image's name")
    return found


def main(words: Sequence[str]) -> int:
    """Exit status 1, with a sentence, for what a person can mend."""
    options = _arguments(words)
    login = f"{options.username}:{sys.stdin.readline().rstrip()}" if options.username else ""
    try:
        tls = None if options.plain_http else ssl.create_default_context(cafile=options.ca_file)
        mirror(options.folder, Registry(options.registry.strip("/"), tls, login), options.without)
    except (MirrorError, OSError, http.client.HTTPException) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
