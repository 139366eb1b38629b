"""An OpenID Connect issuer: keys that sign, documents that publish them, and tokens to be refused."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
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

from footplate_api.identity.authentication import LONGEST
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


# -- tokens that nobody may be let in with ---------------------------------------------------------


NOBODY: Final = "is not valid: it has"  # Kubernetes' word: the token does not say that it is the issuer's
UNREADABLE: Final = "is not a valid JSON Web Token"
ALGORITHM: Final = "one of these algorithms: RS256, ES256"
SIGNATURE: Final = "signature does not match"
UNPUBLISHED: Final = "does not publish"
NUMBER: Final = "must be a number of seconds since 1970"

Make = Callable[[Publisher, float], str]


def claiming(**more: Any) -> Make:
    """A token that is signed as it should be, with other claims."""
    return lambda issuer, now: issuer.keys[0].sign(issuer.claims(now, **more))


def ending(moment: str) -> Make:
    """One whose claim exp is that JSON."""

    def make(issuer: Publisher, now: float) -> str:
        said = json.dumps(issuer.claims(now, exp=None))
        return issuer.keys[0].sign(f'{said[:-1]}, "exp": {moment}}}'.encode())

    return make


def headed(**header: Any) -> Make:
    """One that is signed as it should be, under another header."""
    return lambda issuer, now: issuer.keys[0].sign(issuer.claims(now), **header)


def holding(payload: bytes) -> Make:
    """One that is signed as it should be, with these bytes after the issuer's name."""
    return lambda issuer, now: issuer.keys[0].sign(payload.replace(b"ISSUER", issuer.url.encode()))


def forged(key: SigningKey, **header: Any) -> Make:
    """One that another key signed."""
    return lambda issuer, now: key.sign(issuer.claims(now), **header)


def unsigned(algorithm: str) -> Make:
    """One that says that it needs no signature."""

    def make(issuer: Publisher, now: float) -> str:
        header = json.dumps({"alg": algorithm, "kid": issuer.keys[0].id}).encode()
        return compact(header, json.dumps(issuer.claims(now)).encode(), lambda data: b"")

    return make


def symmetric(issuer: Publisher, now: float) -> str:
    """HS256 with the public key, which everybody has, for a secret."""
    key = issuer.keys[0]
    header = json.dumps({"alg": "HS256", "kid": key.id}).encode()
    payload = json.dumps(issuer.claims(now)).encode()
    return compact(header, payload, lambda data: hmac.digest(key.pem, data, hashlib.sha256))


def cut(issuer: Publisher, now: float) -> str:
    """One whose signature lacks its end."""
    return issuer.keys[0].sign(issuer.claims(now))[:-8]


def swapped(issuer: Publisher, now: float) -> str:
    """The claims of one under the signature of another."""
    head, _, signature = issuer.keys[0].sign(issuer.claims(now)).split(".")
    return ".".join([head, encoded(json.dumps(issuer.claims(now, sub="root")).encode()), signature])


def twice_headed(issuer: Publisher, now: float) -> str:
    """One with two algorithms."""
    header = b'{"alg": "none", "alg": "RS256", "kid": "rsa"}'
    return issuer.keys[0].sign_as(header, json.dumps(issuer.claims(now)).encode())


def deeply_headed(issuer: Publisher, now: float) -> str:
    """One whose header nests."""
    header = b'{"alg": "RS256", "kid": "rsa", "a": ' + b"[" * 3000 + b"]" * 3000 + b"}"
    return issuer.keys[0].sign_as(header, json.dumps(issuer.claims(now)).encode())


MALLORY: Final = rsa_key("mallory")
AS_RSA: Final = {"kid": "rsa"}
ELSEWHERE: Final = "http://127.0.0.1:9/keys"

HOSTILE: Final[dict[str, tuple[Make, str]]] = {
    "expired": (lambda issuer, now: claiming(exp=int(now) - 61)(issuer, now), "exp has passed"),
    "not yet valid": (lambda issuer, now: claiming(nbf=int(now) + 61)(issuer, now), "nbf is in the future"),
    "of the future": (lambda issuer, now: claiming(iat=int(now) + 61)(issuer, now), "iat is in the future"),
    "of a foreign issuer": (claiming(iss="https://elsewhere.example.com"), NOBODY),
    "of an issuer with a slash": (lambda i, now: claiming(iss=f"{i.url}/")(i, now), NOBODY),
    "of two issuers": (lambda i, now: claiming(iss=[i.url, "https://b"])(i, now), NOBODY),
    "of no issuer": (claiming(iss=None), NOBODY),
    "for another audience": (claiming(aud="another"), "aud does not name this API"),
    "for other audiences": (claiming(aud=["another", "third"]), "aud does not name this API"),
    "for no audience": (claiming(aud=None), "aud must be a string"),
    "for a number": (claiming(aud=[1]), "aud must be a string"),
    "for nobody": (claiming(aud=[]), "aud does not name this API"),
    "HS256 by the public key": (symmetric, ALGORITHM),
    "none": (unsigned("none"), ALGORITHM),
    "nOnE": (unsigned("nOnE"), ALGORITHM),
    "RS256 without a signature": (unsigned("RS256"), SIGNATURE),
    "an algorithm that is not allowed": (headed(alg="RS512"), ALGORITHM),
    "an algorithm that is a list": (headed(alg=["RS256"]), ALGORITHM),
    "no algorithm": (headed(alg=None), ALGORITHM),
    "no kid": (headed(kid=None), "kid"),
    "an empty kid": (headed(kid=""), "kid"),
    "a kid that is a number": (headed(kid=7), "kid"),
    "a kid that is a path": (headed(kid="../../etc/passwd"), UNPUBLISHED),
    "an unknown kid": (forged(MALLORY), UNPUBLISHED),
    "a known kid, another key": (forged(MALLORY, **AS_RSA), SIGNATURE),
    "its own key in the header": (forged(MALLORY, **AS_RSA, jwk=MALLORY.public), SIGNATURE),
    "its own key, and its kid": (forged(MALLORY, jwk=MALLORY.public), UNPUBLISHED),
    "keys elsewhere": (forged(MALLORY, **AS_RSA, jku=ELSEWHERE), SIGNATURE),
    "a certificate elsewhere": (forged(MALLORY, **AS_RSA, x5u=ELSEWHERE), SIGNATURE),
    "a certificate in the header": (forged(MALLORY, **AS_RSA, x5c=["MIIB"]), SIGNATURE),
    "ES256 under the kid of an RSA key": (forged(ec_key("ec"), **AS_RSA), UNPUBLISHED),
    "RS256 under the kid of an EC key": (forged(MALLORY, kid="ec"), UNPUBLISHED),
    "an ES256 signature called RS256": (forged(ec_key("ec"), **AS_RSA, alg="RS256"), SIGNATURE),
    "crit": (headed(crit=["exp"]), "extensions"),
    "crit that is no list": (headed(crit="exp"), "extensions"),
    "b64": (headed(b64=False), "extensions"),
    "half a signature": (cut, SIGNATURE),
    "the signature of another token": (swapped, SIGNATURE),
    "two algorithms": (twice_headed, UNREADABLE),
    "a header that nests": (deeply_headed, UNREADABLE),
    "claims that nest": (holding(b'{"iss": "ISSUER", "a": ' + b"[" * 4000 + b"]" * 4000 + b"}"), NOBODY),
    "a claim that comes twice": (holding(b'{"iss": "ISSUER", "sub": "bob", "sub": "root"}'), UNREADABLE),
    "an issuer that comes twice": (holding(b'{"iss": "https://b", "iss": "ISSUER"}'), UNREADABLE),
    "claims in UTF-16": (holding('{"iss": "ISSUER"}'.encode("utf-16")), NOBODY),
    "a list of claims": (holding(b'["ISSUER"]'), NOBODY),
    "no claims": (holding(b""), NOBODY),
    "exp as a text": (ending('"2099-01-01"'), NUMBER),
    "exp as a number in a text": (ending('"4102444800"'), NUMBER),
    "exp as NaN": (ending("NaN"), UNREADABLE),
    "exp as Infinity": (ending("Infinity"), UNREADABLE),
    "exp beyond all floats": (ending("1e999"), NUMBER),
    "exp of 400 digits": (ending("9" * 400), NUMBER),
    "exp of 5000 digits": (ending("9" * 5000), NOBODY),
    "exp after the year 9999": (ending("253402300800"), NUMBER),
    "exp below zero": (ending("-1"), NUMBER),
    "exp as true": (ending("true"), NUMBER),
    "exp as a list": (ending("[4102444800]"), NUMBER),
    "exp as null": (ending("null"), "exp is missing"),
    "no exp": (claiming(exp=None), "exp is missing"),
    "nbf as a text": (claiming(nbf="soon"), "nbf must be a number"),
    "nobody's name": (claiming(sub=None), "sub must be a string"),
    "a name that is empty": (claiming(sub=""), "sub must be a string"),
    "a name that is a number": (claiming(sub=0), "sub must be a string"),
    "a name that is an object": (claiming(sub={"name": "root"}), "sub must be a string"),
    "a group of Kubernetes": (
        claiming(groups=["a", "system:masters"]),
        "groups has a name with the reserved prefix system:",
    ),
    "groups that are no texts": (claiming(groups=[["a"]]), "groups must be a string or a list"),
    "a claim that is required and not there": (claiming(tenant=None), "tenant does not have the required"),
    "a claim that is required to be another": (
        claiming(tenant="another"),
        "tenant does not have the required",
    ),
    "too long": (
        lambda issuer, now: claiming(pad="a" * LONGEST)(issuer, now),
        f"at most {LONGEST} characters",
    ),
    "encrypted": (lambda issuer, now: f"{headed()(issuer, now)}.YQ.YQ", NOBODY),
    "dots": (lambda issuer, now: "..", NOBODY),
    "noise": (lambda issuer, now: "x" * 4000, NOBODY),
}
