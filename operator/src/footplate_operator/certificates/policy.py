"""The certificates that should exist, and when they are renewed.

An authority signs the certificate that the API serves with. Both are renewed early enough for clients to
learn of it: the next authority is in every bundle for a month before it signs, and its predecessor until it
expires. So a client whose bundle is weeks old can still verify the API.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

AUTHORITY_LIFE: Final = timedelta(days=3650)
AUTHORITY_LEFT: Final = timedelta(days=730)  # of the newest one's life, when the next one is made
KNOWN_FOR: Final = timedelta(days=30)  # in the bundle, before it signs
SERVING_LIFE: Final = timedelta(days=90)
SERVING_SHARE: Final = 2 / 3  # of its life, after which it is renewed
EARLIER: Final = timedelta(minutes=10)  # a certificate begins: clocks of other machines are behind


@dataclass(frozen=True)
class CertificateKeyPair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def begins(self) -> datetime:
        """Start of the validity."""
        return self.certificate.not_valid_before_utc

    @property
    def ends(self) -> datetime:
        """End of the validity."""
        return self.certificate.not_valid_after_utc

    def valid(self, now: datetime) -> bool:
        """Return whether the certificate is valid at `now`."""
        return self.begins <= now < self.ends


def service_dns_names(service: str, namespace: str) -> tuple[x509.GeneralName, ...]:
    """Return every name by which a Service of the cluster, or a forwarded port of it, is reached."""
    hosts = (
        service,
        f"{service}.{namespace}",
        f"{service}.{namespace}.svc",
        f"{service}.{namespace}.svc.cluster.local",
        "localhost",
    )
    addresses = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))
    return (*map(x509.DNSName, hosts), *map(x509.IPAddress, addresses))


def list_unexpired(known: Sequence[CertificateKeyPair], now: datetime) -> list[CertificateKeyPair]:
    """Return the authorities of the bundle, the oldest first: all that have not expired."""
    return sorted((pair for pair in known if now < pair.ends), key=lambda pair: pair.begins)


def find_authority_fault(known: Sequence[CertificateKeyPair], now: datetime) -> str:
    """Return why another authority is needed; empty where none is."""
    valid = [pair for pair in known if pair.valid(now)]
    if not valid:
        return "there is no valid CA certificate"
    ends = max(pair.ends for pair in valid)
    return f"the newest expires on {ends:%Y-%m-%d}" if ends - now < AUTHORITY_LEFT else ""


def signer(known: Sequence[CertificateKeyPair], now: datetime) -> CertificateKeyPair:
    """Return the authority that signs: the newest in the bundle for KNOWN_FOR, else the oldest valid one.

    `known` has one that is valid.
    """
    valid = [pair for pair in list_unexpired(known, now) if pair.valid(now)]
    everybodys = [pair for pair in valid if now - pair.begins >= KNOWN_FOR]
    return everybodys[-1] if everybodys else valid[0]


def find_serving_fault(
    serving: CertificateKeyPair | None,
    authorities: Sequence[CertificateKeyPair],
    names: Sequence[x509.GeneralName],
    now: datetime,
) -> str:
    """Return why the API needs another certificate; empty where it does not."""
    if serving is None:
        return "there is no readable certificate"
    if now < serving.begins:
        return f"it is not valid before {serving.begins:%Y-%m-%d %H:%M}"
    if now >= serving.begins + SERVING_SHARE * (serving.ends - serving.begins):
        return f"it expires on {serving.ends:%Y-%m-%d}"
    if set(_names(serving.certificate)) != set(names):
        return "its DNS names differ"
    if not any(_signed(serving.certificate, pair) for pair in authorities if pair.valid(now)):
        return "none of the operator's CAs signed it"
    return ""


def _names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, ValueError):
        return []


def _signed(certificate: x509.Certificate, authority: CertificateKeyPair) -> bool:
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
