"""Manifests of the objects that store certificates and keys, and their parsers.

Three objects for three groups of readers: the authorities' keys are the operator's alone, the API's key is
mounted into its pods, and the bundle is for everybody.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from footplate_contracts.names import API_CA_FILE
from footplate_operator.certificates.policy import CertificateKeyPair
from footplate_operator.certificates.x509_helpers import certificate_text, key_text
from footplate_operator.runtime.kinds import SECRET, Json, Kind

CERTIFICATE_KEY: Final = "tls.crt"  # as the type kubernetes.io/tls has it
PRIVATE_KEY_KEY: Final = "tls.key"
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
LABELS: Final = {
    "app.kubernetes.io/name": "footplate",
    "app.kubernetes.io/component": "certificates",
    "app.kubernetes.io/managed-by": "footplate-operator",
}


@dataclass(frozen=True)
class CertificateNames:
    """The certificate's Service, whose name prefixes the names of all objects."""

    namespace: str
    service: str

    @property
    def authority(self) -> str:
        """Name of the Secret with the authorities and their keys."""
        return f"{self.service}-authority"

    @property
    def serving(self) -> str:
        """Name of the Secret that the API mounts."""
        return f"{self.service}-tls"

    @property
    def bundle(self) -> str:
        """Name of the ConfigMap with the CA certificates that verify the API."""
        return f"{self.service}-ca"


def authority_secret(place: CertificateNames, authorities: Sequence[CertificateKeyPair]) -> Json:
    """Return the Secret of all authorities, numbered from the oldest."""
    data = {}
    for number, pair in enumerate(authorities, start=1):
        data[f"{number}.crt"] = certificate_text(pair.certificate)
        data[f"{number}.key"] = key_text(pair.key)
    return _secret(place, place.authority, "Opaque", data)


def serving_secret(place: CertificateNames, serving: CertificateKeyPair) -> Json:
    """Return the Secret of the API's certificate."""
    data = {CERTIFICATE_KEY: certificate_text(serving.certificate), PRIVATE_KEY_KEY: key_text(serving.key)}
    return _secret(place, place.serving, "kubernetes.io/tls", data)


def bundle_config_map(place: CertificateNames, bundle: str) -> Json:
    """Return the ConfigMap with the CA certificates that verify the API."""
    metadata = _metadata(place, place.bundle)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {API_CA_FILE: bundle}}


def bundle_of(authorities: Sequence[CertificateKeyPair]) -> str:
    """Return the authorities' certificates in PEM, one after the other."""
    return _texts([pair.certificate for pair in authorities])


def read_authorities(body: Json | None) -> tuple[list[CertificateKeyPair], list[str]]:
    """Return the authorities in a Secret, and the errors of its other entries."""
    if body is None:
        return [], []
    found, faults = [], []
    names = sorted(name.removesuffix(".crt") for name in _data(body) if name.endswith(".crt"))
    for name in names:
        try:
            found.append(_pair(body, f"{name}.crt", f"{name}.key", vouches=True))
        except ValueError as error:
            faults.append(str(error))
    return found, faults


def read_serving_certificate(body: Json | None) -> CertificateKeyPair | None:
    """Return the API's certificate; None where there is none, or it cannot be parsed."""
    try:
        return _pair(body, CERTIFICATE_KEY, PRIVATE_KEY_KEY, vouches=False) if body else None
    except ValueError:
        return None


def read_bundle(kind: Kind, body: Json) -> str:
    """Return the CA certificates in a foreign Secret or ConfigMap; raises ValueError without any."""
    what = f"{kind.name} {body['metadata']['name']}"
    found = _value(body, API_CA_FILE) if kind == SECRET else str(_data(body).get(API_CA_FILE, "")).encode()
    if not found.strip():
        raise ValueError(f"{what} has no {API_CA_FILE}, which must hold the CA certificate")
    try:
        return _texts(x509.load_pem_x509_certificates(found))
    except ValueError as error:
        raise ValueError(f"{API_CA_FILE} of {what} holds no PEM certificates: {error}") from None


def _texts(certificates: Sequence[x509.Certificate]) -> str:
    return b"".join(map(certificate_text, certificates)).decode()


def is_up_to_date(wanted: Json, found: Json) -> bool:
    """Return whether `found` has the wanted data and type."""
    return wanted["data"] == found.get("data") and _type(wanted) == _type(found)


def can_replace(wanted: Json, found: Json) -> bool:
    """Return whether `found` can be replaced: the API server changes no type, and nothing immutable."""
    return not found.get("immutable") and _type(wanted) == _type(found)


def _type(body: Json) -> str:
    return str(body.get("type", ""))


def _pair(body: Json, certificate_name: str, key_name: str, *, vouches: bool) -> CertificateKeyPair:
    """Return a certificate and its key; raises ValueError where they are invalid."""
    try:
        certificate = x509.load_pem_x509_certificate(_value(body, certificate_name))
        key = serialization.load_pem_private_key(_value(body, key_name), password=None)
        public = certificate.public_key()
        _ = certificate.extensions  # read later on: they are parsed where they are looked at only
    except _UNREADABLE as error:
        raise ValueError(f"{certificate_name} and {key_name} cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != public:
        raise ValueError(f"{key_name} is not the key of {certificate_name}")
    if vouches and not _vouches(certificate):
        raise ValueError(f"{certificate_name} is not a CA certificate")
    return CertificateKeyPair(certificate, key)


def _vouches(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _data(body: Json) -> Json:
    return body.get("data") or {}


def _value(body: Json, name: str) -> bytes:
    """Return the decoded value of `name`; raises ValueError where it is no base64."""
    try:
        return base64.b64decode(_data(body).get(name, ""), validate=True)
    except binascii.Error as error:
        raise ValueError(f"{name} is not base64: {error}") from None


def _secret(place: CertificateNames, name: str, type_: str, data: dict[str, bytes]) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(place, name),
        "type": type_,
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


def _metadata(place: CertificateNames, name: str) -> Json:
    return {"name": name, "namespace": place.namespace, "labels": dict(LABELS)}
