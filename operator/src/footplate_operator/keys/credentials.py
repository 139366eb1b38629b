"""Derives a run's token and certificate from the installation's key and the run's uid; pure.

So no replica has to read a Secret to know them: the operator may create and delete Secrets in the
namespaces of runs, and read none. The certificate is self-signed and the run's only authority, so no
certificate manager is needed, and a run's credentials open no other run. Ed25519 signatures are
deterministic.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID

from footplate_operator.certificates.x509_helpers import certificate_text, key_text, key_usage, subject_name

KEY_BYTES: Final = 32
TOKEN_BYTES: Final = 32
LIFETIME: Final = timedelta(days=3650)  # longer than any run; the Secret goes with the run
_EARLIER: Final = timedelta(days=1)  # nodes whose clocks are behind
_SERIAL_BYTES: Final = 16


@dataclass(frozen=True)
class RunCredentials:
    """Token and TLS key pair by which coordinator, agents and operator authenticate each other."""

    token: str
    certificate: bytes  # PEM, self-signed: the run's only authority
    private_key: bytes  # PEM


def key_id(key: bytes) -> str:
    """Return an identifier of the key, which reveals nothing of it: the operator stores it in revisions."""
    return hashlib.sha256(b"footplate run key " + key).hexdigest()[:16]


def derive_credentials(key: bytes, uid: str, names: Sequence[str], created: datetime) -> RunCredentials:
    """Derive the credentials of the run `uid`; `names` are its coordinator's DNS names, the main one first.

    Args:
        key: the installation's key, KEY_BYTES long.
        created: the run's creation time, from its metadata.
    """
    private = Ed25519PrivateKey.from_private_bytes(_part(key, uid, "tls", KEY_BYTES))
    serial = int.from_bytes(_part(key, uid, "serial", _SERIAL_BYTES), "big") or 1
    return RunCredentials(
        token=base64.urlsafe_b64encode(_part(key, uid, "token", TOKEN_BYTES)).rstrip(b"=").decode(),
        certificate=certificate_text(_self_signed(private, serial, names, created)),
        private_key=key_text(private),
    )


def _part(key: bytes, uid: str, what: str, length: int) -> bytes:
    """Derive `length` bytes for the use `what` by RFC 5869; another use yields other bytes."""
    info = f"{what} of run {uid}".encode()
    return HKDF(hashes.SHA256(), length, salt=b"footplate", info=info).derive(key)


def _self_signed(
    key: Ed25519PrivateKey, serial: int, names: Sequence[str], created: datetime
) -> x509.Certificate:
    name, public = subject_name(names[0]), key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(created - _EARLIER)
        .not_valid_after(created + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(proves=True, vouches=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, None)
    )
