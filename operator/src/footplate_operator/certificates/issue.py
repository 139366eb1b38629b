"""Issues certificates; the random part, at the edge."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from footplate_operator.certificates.manifests import CertificateNames
from footplate_operator.certificates.policy import AUTHORITY_LIFE, EARLIER, SERVING_LIFE, CertificateKeyPair
from footplate_operator.certificates.x509_helpers import key_usage, new_key, subject_name


def new_authority(place: CertificateNames, now: datetime) -> CertificateKeyPair:
    """Create a self-signed CA for the Service of `place`."""
    key, serial = new_key(), x509.random_serial_number()
    # Of its own: whoever verifies finds an authority by its name, and several stand in one bundle.
    name = subject_name(f"footplate {now:%Y-%m-%d} {serial & 0xFFFF:04x} {place.namespace}/{place.service}")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(proves=False, vouches=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return CertificateKeyPair(certificate, key)


def new_serving_certificate(
    authority: CertificateKeyPair, names: Sequence[x509.GeneralName], now: datetime
) -> CertificateKeyPair:
    """Create a server certificate for these names, which does not outlive its CA."""
    key, vouching = new_key(), authority.key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject_name(str(names[0].value)))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - EARLIER, authority.begins))
        .not_valid_after(min(now + SERVING_LIFE, authority.ends))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(proves=True, vouches=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(vouching), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return CertificateKeyPair(certificate, key)
