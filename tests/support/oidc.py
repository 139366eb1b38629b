"""An OpenID Connect issuer: keys that sign, and the documents in which it publishes them."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm, RSAAlgorithm, get_default_algorithms

from footplate_api.identity.oidc.keys import JsonWebKey, parse_jwks

CLIENT: Final = "footplate"


def encoded(data: bytes) -> str:
    """As a segment of a token."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(header: bytes, payload: bytes, sign: Callable[[bytes], bytes]) -> str:
    """The token that `sign` makes of these."""
    signed = f"{encoded(header)}.{encoded(payload)}"
    return f"{signed}.{encoded(sign(signed.encode()))}"


@dataclass(frozen=True)
class SigningKey:
    """A key of an issuer, or of somebody who would like to be one."""

    id: str
    algorithm: str
    private: Any

    def sign(self, payload: Mapping[str, Any] | bytes, **header: Any) -> str:
        """A token; what is None in `header` is left out."""
        said = {"alg": self.algorithm, "kid": self.id, "typ": "JWT", **header}
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return self.sign_as(
            json.dumps({key: v for key, v in said.items() if v is not None}).encode(), content
        )

    def sign_as(self, header: bytes, payload: bytes) -> str:
        """A token of exactly these bytes."""
        signer = get_default_algorithms()[self.algorithm]
        return compact(header, payload, lambda data: signer.sign(data, self.private))

    @property
    def public(self) -> dict[str, Any]:
        """As a JWK."""
        kind = RSAAlgorithm if self.algorithm.startswith("RS") else ECAlgorithm
        jwk = kind.to_jwk(self.private.public_key(), as_dict=True)
        return {**jwk, "kid": self.id, "alg": self.algorithm, "use": "sig", "key_ops": ["verify"]}

    @property
    def pem(self) -> bytes:
        """The public key as a file."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@cache
def rsa_key(name: str, bits: int = 2048) -> SigningKey:
    """One that signs by RS256."""
    return SigningKey(name, "RS256", rsa.generate_private_key(public_exponent=65537, key_size=bits))


@cache
def ec_key(name: str) -> SigningKey:
    """One that signs by ES256."""
    return SigningKey(name, "ES256", ec.generate_private_key(ec.SECP256R1()))


@dataclass
class Publisher:
    """What an issuer publishes; `silent` is one that takes requests and does not answer."""

    url: str = "https://issuer.example.com"
    keys: list[SigningKey] = field(default_factory=lambda: [rsa_key("rsa"), ec_key("ec")])
    silent: bool = False
    asked: list[str] = field(default_factory=list)  # paths
    discovery: dict[str, Any] = field(default_factory=dict)  # replaces what it would say

    def jwks(self) -> dict[str, Any]:
        """Its JWK set."""
        return {"keys": [key.public for key in self.keys]}

    def usable(self) -> tuple[JsonWebKey, ...]:
        """As the API reads it."""
        return parse_jwks(self.jwks())

    def claims(self, now: float, **more: Any) -> dict[str, Any]:
        """Good ones for the next minutes; what is None in `more` is left out."""
        times = {"iat": int(now), "nbf": int(now), "exp": int(now) + 300}
        said = {"iss": self.url, "aud": CLIENT, "sub": "alice", "tenant": "research", **times, **more}
        return {name: value for name, value in said.items() if value is not None}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Whatever is asked for."""
        self.asked.append(request.path)
        while self.silent:
            await asyncio.sleep(0.01)
        if request.path == "/keys":
            return web.json_response(self.jwks())
        if request.path == "/.well-known/openid-configuration":
            return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.discovery})
        if request.path == "/moved":
            raise web.HTTPFound(f"{self.url}/keys")
        if request.path == "/html":
            return web.Response(text="<html>")
        return web.Response(status=404)


@asynccontextmanager
async def publishing(tls: tuple[Path, Path] | None = None) -> AsyncIterator[Publisher]:
    """A publisher on loopback for the block; `tls` are the files of its certificate and of its key."""
    context = None
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*tls)
    publisher = Publisher()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", publisher.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    publisher.url = f"{'https' if context else 'http'}://127.0.0.1:{port}"
    try:
        yield publisher
    finally:
        publisher.silent = False
        await runner.cleanup()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    key = ec_key("tls").private
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    made = made.add_extension(address, critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate, private = folder / "tls.crt", folder / "tls.key"
    certificate.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, private
