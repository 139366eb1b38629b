"""The API's certificate as a client sees it: whether a bundle vouches for it."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_bytes

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from footplate_operator.certificates.issue import new_authority, new_serving_certificate
from footplate_operator.certificates.manifests import CertificateNames, bundle_of
from footplate_operator.certificates.policy import CertificateKeyPair, service_dns_names
from footplate_operator.certificates.x509_helpers import certificate_text, key_text
from footplate_operator.keys.credentials import KEY_BYTES, RunCredentials, derive_credentials


def vouches(bundle: str, certificate: bytes, name: str, now: datetime) -> bool:
    """Whether whoever trusts `bundle` takes the server with this certificate for `name`."""
    store = Store(x509.load_pem_x509_certificates(bundle.encode()))
    [leaf] = x509.load_pem_x509_certificates(certificate)
    try:
        subject: x509.DNSName | x509.IPAddress = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        subject = x509.DNSName(name)
    verifier = PolicyBuilder().store(store).time(now.replace(tzinfo=None)).build_server_verifier(subject)
    try:
        verifier.verify(leaf, [])
    except VerificationError:
        return False
    return True


def serials(pairs: Sequence[CertificateKeyPair]) -> list[int]:
    """By which certificates are told apart."""
    return [pair.certificate.serial_number for pair in pairs]


@dataclass(frozen=True)
class Volume:
    """A folder as the kubelet mounts a Secret or a ConfigMap: one rename changes all its files at once."""

    folder: Path

    def put(self, files: Mapping[str, str | bytes]) -> None:
        """From now on it holds these files."""
        number = len(list(self.folder.glob("..v*"))) if self.folder.exists() else 0
        version = self.folder / f"..v{number}"
        version.mkdir(parents=True)
        for name, content in files.items():
            (version / name).write_bytes(content if isinstance(content, bytes) else content.encode())
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(Path("..data") / name)
        fresh = self.folder / "..data_tmp"
        fresh.symlink_to(version.name)
        fresh.replace(self.folder / "..data")

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


def any_credentials(*names: str) -> RunCredentials:
    """Those of some run whose coordinator has these names, and of nobody else."""
    return derive_credentials(token_bytes(KEY_BYTES), "uid", names, datetime.now(UTC))


class Issuer:
    """An authority as the operator keeps one, and what it signs for the API of a test."""

    def __init__(self, now: datetime | None = None) -> None:
        self._now = now or datetime.now(UTC)
        self._authority = new_authority(CertificateNames("default", "api"), self._now)

    @property
    def bundle(self) -> str:
        """Who trusts this trusts what it signs."""
        return bundle_of([self._authority])

    def serving(
        self, service: str = "api", namespace: str = "default", addresses: Iterable[str] = ()
    ) -> dict[str, bytes]:
        """The files of another certificate for localhost, 127.0.0.1, that Service and these addresses."""
        more = (x509.IPAddress(ipaddress.ip_address(address)) for address in addresses)
        made = new_serving_certificate(
            self._authority, (*service_dns_names(service, namespace), *more), self._now
        )
        return {"tls.crt": certificate_text(made.certificate), "tls.key": key_text(made.key)}

    def trusting(self) -> ssl.SSLContext:
        """Of a client that trusts it, and nobody else."""
        return ssl.create_default_context(cadata=self.bundle)
