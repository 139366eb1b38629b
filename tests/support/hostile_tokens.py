"""Tokens that nobody may be let in with: a table of what strangers try."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any, Final

from footplate_api.identity.authentication import LONGEST
from tests.support.oidc import Publisher, SigningKey, compact, ec_key, encoded, rsa_key

NOBODY: Final = "is not valid here"  # Kubernetes' word: the token does not say that it is the issuer's
UNREADABLE: Final = "no JSON Web Token that can be read"
ALGORITHM: Final = "one of these algorithms: RS256, ES256"
SIGNATURE: Final = "signature is not"
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
    "not yet valid": (lambda issuer, now: claiming(nbf=int(now) + 61)(issuer, now), "nbf is still to come"),
    "of the future": (lambda issuer, now: claiming(iat=int(now) + 61)(issuer, now), "iat is still to come"),
    "of a foreign issuer": (claiming(iss="https://elsewhere.example.com"), NOBODY),
    "of an issuer with a slash": (lambda i, now: claiming(iss=f"{i.url}/")(i, now), NOBODY),
    "of two issuers": (lambda i, now: claiming(iss=[i.url, "https://b"])(i, now), NOBODY),
    "of no issuer": (claiming(iss=None), NOBODY),
    "for another audience": (claiming(aud="another"), "aud does not name this API"),
    "for other audiences": (claiming(aud=["another", "third"]), "aud does not name this API"),
    "for no audience": (claiming(aud=None), "aud must be a text"),
    "for a number": (claiming(aud=[1]), "aud must be a text"),
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
    "nobody's name": (claiming(sub=None), "sub must be a text"),
    "a name that is empty": (claiming(sub=""), "sub must be a text"),
    "a name that is a number": (claiming(sub=0), "sub must be a text"),
    "a name that is an object": (claiming(sub={"name": "root"}), "sub must be a text"),
    "a group of Kubernetes": (
        claiming(groups=["a", "system:masters"]),
        "groups names what begins with system:",
    ),
    "groups that are no texts": (claiming(groups=[["a"]]), "groups must be a text or a list"),
    "a claim that is required and not there": (claiming(tenant=None), "tenant is not what"),
    "a claim that is required to be another": (claiming(tenant="another"), "tenant is not what"),
    "too long": (
        lambda issuer, now: claiming(pad="a" * LONGEST)(issuer, now),
        f"at most {LONGEST} characters",
    ),
    "encrypted": (lambda issuer, now: f"{headed()(issuer, now)}.YQ.YQ", NOBODY),
    "dots": (lambda issuer, now: "..", NOBODY),
    "noise": (lambda issuer, now: "x" * 4000, NOBODY),
}
