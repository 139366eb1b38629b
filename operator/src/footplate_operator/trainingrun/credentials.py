"""A run's token and certificate: made by chance, once, at the edge.

The certificate signs itself and is the run's only authority, so nobody needs a
certificate manager, and the key of one run opens no other.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from footplate_operator.certificates.x509 import certificate_text, key_text, named, new_key, usage
from footplate_operator.trainingrun.observed import Credentials

TOKEN_BYTES: Final = 32
LIFETIME: Final = timedelta(days=3650)  # longer than any run; the Secret goes with the run
_EARLIER: Final = timedelta(days=1)  # nodes whose clocks are behind


def new_credentials(names: Sequence[str], now: datetime) -> Credentials:
    """Fresh credentials; `names` are the DNS names of the coordinator, the main one first."""
    key = new_key()
    return Credentials(
        token=secrets.token_urlsafe(TOKEN_BYTES),
        certificate=certificate_text(_self_signed(key, names, now)),
        private_key=key_text(key),
    )


def _self_signed(key: ec.EllipticCurvePrivateKey, names: Sequence[str], now: datetime) -> x509.Certificate:
    name, public = named(names[0]), key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(proves=True, vouches=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
