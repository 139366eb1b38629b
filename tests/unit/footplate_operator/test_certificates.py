"""The API's certificate: always there, always vouched for, whatever becomes of the objects."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from footplate_contracts import names
from footplate_operator.certificates import manifests, policy
from footplate_operator.certificates.issue import new_authority, new_serving_certificate
from footplate_operator.certificates.manifests import CertificateNames
from footplate_operator.certificates.policy import CertificateKeyPair
from footplate_operator.certificates.reconciler import CertificateReconciler, ExternalCaBundle
from footplate_operator.errors import AlreadyExists, CertificateMissing, LeadershipLost
from footplate_operator.runtime.fence import FencedCluster
from footplate_operator.runtime.kinds import CONFIG_MAP, SECRET, Json
from tests.support.certificates import serials, vouches
from tests.support.fake_cluster import Clock, FakeCluster

PLACE = CertificateNames("footplate-system", "footplate-api")
NAMES = policy.service_dns_names(PLACE.service, PLACE.namespace)
HOST = "footplate-api.footplate-system.svc"
NOW = Clock().moment
DAY = timedelta(days=1)


def keeper(cluster: FakeCluster, given: ExternalCaBundle | None = None) -> CertificateReconciler:
    return CertificateReconciler(cluster, PLACE, cluster.clock, given)


def secret(cluster: FakeCluster, name: str) -> dict[str, bytes]:
    data = cluster.objects[SECRET, name]["data"]
    return {key: base64.b64decode(value) for key, value in data.items()}


def bundle(cluster: FakeCluster) -> str:
    return str(cluster.objects[CONFIG_MAP, PLACE.bundle]["data"]["ca.crt"])


def serving(cluster: FakeCluster) -> bytes:
    return secret(cluster, PLACE.serving)["tls.crt"]


def holds(cluster: FakeCluster, trusted: str = "") -> bool:
    return vouches(trusted or bundle(cluster), serving(cluster), HOST, cluster.clock())


# -- what is made ------------------------------------------------------------------------


async def test_all_three_objects_are_there_after_one_look() -> None:
    cluster = FakeCluster()
    await keeper(cluster).reconcile()
    assert cluster.calls == ["create Secret", "create ConfigMap", "create Secret"]
    assert secret(cluster, PLACE.authority).keys() == {"1.crt", "1.key"}
    assert secret(cluster, PLACE.serving).keys() == {"tls.crt", "tls.key"}
    assert cluster.objects[SECRET, PLACE.serving]["type"] == "kubernetes.io/tls"
    assert "PRIVATE" not in bundle(cluster)
    await keeper(cluster).reconcile()
    assert len(cluster.calls) == 3, "what is right is left alone"


@pytest.mark.parametrize(
    "name",
    [
        "footplate-api",
        "footplate-api.footplate-system",
        HOST,
        f"{HOST}.cluster.local",
        "localhost",
        "127.0.0.1",
        "::1",
    ],
)
async def test_a_client_takes_it_by_every_name(name: str) -> None:
    cluster = FakeCluster()
    await keeper(cluster).reconcile()
    assert vouches(bundle(cluster), serving(cluster), name, cluster.clock())
    assert vouches(bundle(cluster), serving(cluster), name, cluster.clock() - timedelta(minutes=9))
    assert not vouches(bundle(cluster), serving(cluster), "other.footplate-system.svc", cluster.clock())


@pytest.mark.parametrize("run", ["footplate", PLACE.service])
def test_no_run_beside_the_release_has_an_object_of_that_name(run: str) -> None:
    taken = {names.secret_name(run), names.config_map_name(run, "0" * 64), names.api_ca_name(run)}
    assert not taken & {PLACE.authority, PLACE.serving, PLACE.bundle}


# -- when it is renewed ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "why"),
    [
        pytest.param(-2 * DAY, "it is not valid before", id="of-the-future"),
        pytest.param(timedelta(), "", id="new"),
        pytest.param(59 * DAY, "", id="two-months"),
        pytest.param(60 * DAY, "it expires on", id="two-thirds"),
        pytest.param(91 * DAY, "it expires on", id="over"),
    ],
)
def test_it_is_renewed_after_two_thirds_of_its_life(after: timedelta, why: str) -> None:
    authority = new_authority(PLACE, NOW - 100 * DAY)
    made = new_serving_certificate(authority, NAMES, NOW)
    fault = policy.find_serving_fault(made, [authority], NAMES, NOW + after)
    assert fault.startswith(why) and bool(fault) == bool(why)


def test_it_is_made_anew_where_it_is_another_services_or_nobodys() -> None:
    authority, other = new_authority(PLACE, NOW), new_authority(PLACE, NOW)
    made = new_serving_certificate(authority, NAMES, NOW)
    elsewhere = policy.service_dns_names("other", PLACE.namespace)
    assert policy.find_serving_fault(None, [authority], NAMES, NOW) == "there is no readable certificate"
    assert policy.find_serving_fault(made, [authority], elsewhere, NOW) == "its DNS names differ"
    assert policy.find_serving_fault(made, [other], NAMES, NOW) == "none of the operator's CAs signed it"


@pytest.mark.parametrize(
    ("part", "known", "unknown"),
    [
        pytest.param("serving", "2a8648ce3d040302", "2a8648ce3d04037f", id="signature"),  # ECDSA with SHA-256
        pytest.param("authority", "2a8648ce3d030107", "2a8648ce3d03017f", id="curve"),  # P-256
    ],
)
def test_it_is_made_anew_where_nobody_can_tell_who_signed_it(part: str, known: str, unknown: str) -> None:
    """As where somebody has put another certificate into a Secret, of an algorithm that is not known here."""
    authority = new_authority(PLACE, NOW)
    pairs = {"authority": authority, "serving": new_serving_certificate(authority, NAMES, NOW)}
    der = pairs[part].certificate.public_bytes(Encoding.DER)
    assert bytes.fromhex(known) in der
    changed = x509.load_der_x509_certificate(der.replace(bytes.fromhex(known), bytes.fromhex(unknown)))
    pairs[part] = CertificateKeyPair(changed, pairs[part].key)
    fault = policy.find_serving_fault(pairs["serving"], [pairs["authority"]], NAMES, NOW)
    assert fault == "none of the operator's CAs signed it"


@pytest.mark.parametrize(
    ("after", "made"),
    [
        pytest.param(-DAY, True, id="not-valid-yet"),
        pytest.param(timedelta(), False, id="new"),
        pytest.param(2919 * DAY, False, id="two-years-left"),
        pytest.param(2921 * DAY, True, id="less"),
        pytest.param(3651 * DAY, True, id="over"),
    ],
)
def test_the_next_authority_is_made_two_years_before_the_last_one_ends(after: timedelta, made: bool) -> None:
    assert bool(policy.find_authority_fault([new_authority(PLACE, NOW)], NOW + after)) == made


def test_an_authority_signs_once_everybody_knows_it() -> None:
    old, new = new_authority(PLACE, NOW - 3000 * DAY), new_authority(PLACE, NOW)
    assert policy.signer([old, new], NOW + 29 * DAY) is old
    assert policy.signer([old, new], NOW + 31 * DAY) is new
    assert policy.signer([new], NOW) is new


async def test_forty_years_in_which_a_bundle_four_weeks_old_always_does() -> None:
    cluster = FakeCluster()
    kept, bundles = keeper(cluster), []
    authorities = set()
    for _ in range(40 * 26):
        await kept.reconcile()
        bundles.append(bundle(cluster))
        authorities.update(serials(manifests.read_authorities(cluster.objects[SECRET, PLACE.authority])[0]))
        assert holds(cluster, bundles[max(0, len(bundles) - 3)]) and holds(cluster)
        cluster.clock.advance(14 * 86400.0)
    assert len(authorities) == 5
    assert max(text.count("BEGIN") for text in bundles) == 2


# -- what somebody did to the objects ----------------------------------------------------


def _edited(cluster: FakeCluster, kind: object, name: str, change: Callable[[Json], None]) -> None:
    body = cluster.objects[kind, name]
    change(body)
    cluster.put(body)


def _with(**members: object) -> Callable[[Json], None]:
    return lambda body: body.update(members)


def _data(**members: str) -> Callable[[Json], None]:
    return lambda body: body["data"].update({name.replace("_", "."): text for name, text in members.items()})


_GARBAGE = base64.b64encode(b"garbage").decode()

# What stands in DER, and instead of it: a kind of key that nobody knows, an extension that is there already.
_KIND = bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d027f")
_TWICE = bytes.fromhex("0603551d0f"), bytes.fromhex("0603551d13")


def _instead(name: str, what: tuple[bytes, bytes]) -> Callable[[Json], None]:
    """Of what `what` begins with, in the PEM file `name`."""

    def change(body: Json) -> None:
        first, *lines, last = base64.b64decode(body["data"][name]).decode().splitlines()
        der = base64.b64decode("".join(lines))
        assert what[0] in der
        text = "\n".join((first, base64.b64encode(der.replace(*what)).decode(), last))
        body["data"][name] = base64.b64encode(text.encode()).decode()

    return change


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        pytest.param(SECRET, PLACE.serving, _with(data={}), id="empty"),
        pytest.param(SECRET, PLACE.serving, _with(data=None), id="no-data"),
        pytest.param(SECRET, PLACE.serving, _data(tls_crt=_GARBAGE), id="garbage"),
        pytest.param(SECRET, PLACE.serving, _data(tls_key=_GARBAGE), id="garbage-for-a-key"),
        pytest.param(SECRET, PLACE.serving, _data(tls_key="%"), id="no-base64"),
        pytest.param(SECRET, PLACE.serving, _instead("tls.key", _KIND), id="unknown-kind-of-key"),
        pytest.param(SECRET, PLACE.serving, _instead("tls.crt", _KIND), id="for-an-unknown-kind-of-key"),
        pytest.param(SECRET, PLACE.serving, _instead("tls.crt", _TWICE), id="an-extension-twice"),
        pytest.param(SECRET, PLACE.serving, _data(more=_GARBAGE), id="more"),
        pytest.param(SECRET, PLACE.serving, _with(type="Opaque"), id="another-type"),
        pytest.param(SECRET, PLACE.serving, _with(data={}, immutable=True), id="immutable"),
        pytest.param(SECRET, PLACE.authority, _with(data={}), id="no-authority"),
        pytest.param(SECRET, PLACE.authority, _data(**{"1_key": _GARBAGE}), id="authority-without-key"),
        pytest.param(SECRET, PLACE.authority, _instead("1.key", _KIND), id="authority-with-unknown-key"),
        pytest.param(SECRET, PLACE.authority, _instead("1.crt", _KIND), id="authority-of-unknown-kind"),
        pytest.param(CONFIG_MAP, PLACE.bundle, _with(data={}), id="no-bundle"),
        pytest.param(CONFIG_MAP, PLACE.bundle, _data(ca_crt="foreign"), id="another-bundle"),
    ],
)
async def test_what_is_edited_is_set_right(kind: object, name: str, change: Callable[[Json], None]) -> None:
    cluster = FakeCluster()
    await keeper(cluster).reconcile()
    _edited(cluster, kind, name, change)
    await keeper(cluster).reconcile()
    assert holds(cluster)
    assert cluster.objects[SECRET, PLACE.serving]["type"] == "kubernetes.io/tls"
    calls = len(cluster.calls)
    await keeper(cluster).reconcile()
    assert len(cluster.calls) == calls


@pytest.mark.parametrize("gone", [PLACE.authority, PLACE.serving, PLACE.bundle])
async def test_what_is_deleted_is_made_again(gone: str) -> None:
    cluster = FakeCluster()
    await keeper(cluster).reconcile()
    before = serving(cluster)
    [kind] = [kind for kind, name in cluster.objects if name == gone]
    cluster.end(kind, gone)
    await keeper(cluster).reconcile()
    assert holds(cluster)
    assert (serving(cluster) != before) == (gone != PLACE.bundle)


async def test_another_operators_certificate_is_pasted_into_ours_and_does_not_stay() -> None:
    cluster, other = FakeCluster(), FakeCluster()
    await keeper(cluster).reconcile()
    await keeper(other).reconcile()
    _edited(cluster, SECRET, PLACE.serving, _with(data=other.objects[SECRET, PLACE.serving]["data"]))
    await keeper(cluster).reconcile()
    assert holds(cluster) and serving(cluster) != serving(other)


async def test_labels_of_other_tools_stay() -> None:
    cluster = FakeCluster()
    await keeper(cluster).reconcile()
    _edited(cluster, CONFIG_MAP, PLACE.bundle, lambda body: body["metadata"]["labels"].update(team="ml"))
    _edited(cluster, CONFIG_MAP, PLACE.bundle, _with(data={}))
    await keeper(cluster).reconcile()
    assert cluster.objects[CONFIG_MAP, PLACE.bundle]["metadata"]["labels"]["team"] == "ml"


# -- who acts ----------------------------------------------------------------------------


async def test_whoever_was_slower_changes_nothing() -> None:
    """Two that read the same objects before either wrote: one Secret stands, and the other looks again."""

    class Slow(FakeCluster):
        """Another replica is faster than each of its calls."""

        async def create(self, kind: object, body: Json) -> Json:
            if (kind, body["metadata"]["name"]) not in self.objects:
                await CertificateReconciler(fast, PLACE, fast.clock).reconcile()
            return await super().create(kind, body)

    fast = FakeCluster()
    slow = Slow(objects=fast.objects)
    with pytest.raises(AlreadyExists):
        await keeper(slow).reconcile()
    written = dict(fast.objects)
    await keeper(slow).reconcile()
    assert slow.objects == written and holds(slow)


async def test_a_replica_that_leads_no_more_makes_nothing() -> None:
    def lost() -> None:
        raise LeadershipLost("the Lease is not ours")

    cluster = FakeCluster()
    with pytest.raises(LeadershipLost):
        await CertificateReconciler(FencedCluster(cluster, lost), PLACE, cluster.clock).run()
    assert cluster.objects == {}


# -- a certificate of somebody else's ----------------------------------------------------


def _given(kind: object, value: str) -> Json:
    text = base64.b64encode(value.encode()).decode() if kind == SECRET else value
    name = "Secret" if kind == SECRET else "ConfigMap"
    return {"apiVersion": "v1", "kind": name, "metadata": {"name": "mine"}, "data": {"ca.crt": text}}


@pytest.mark.parametrize(
    "kind", [pytest.param(SECRET, id="secret"), pytest.param(CONFIG_MAP, id="config-map")]
)
async def test_who_vouches_for_a_given_certificate_is_handed_on(kind: object) -> None:
    cluster = FakeCluster()
    vouching = manifests.bundle_of([new_authority(PLACE, NOW)])
    cluster.put(_given(kind, f"# the company's own\n{vouching}"))
    kept = keeper(cluster, ExternalCaBundle(kind, "mine"))
    await kept.reconcile()
    assert bundle(cluster) == kept.bundle == vouching
    assert cluster.calls == ["create ConfigMap"], "no certificate is made"
    renewed = manifests.bundle_of([new_authority(PLACE, NOW)])
    cluster.put(_given(kind, renewed))
    await kept.reconcile()
    assert bundle(cluster) == renewed


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(None, "Secret footplate-system/mine is missing", id="gone"),
        pytest.param(_given(SECRET, ""), "Secret mine has no ca.crt", id="empty"),
        pytest.param(_given(SECRET, "x"), "ca.crt of Secret mine holds no PEM certificates", id="garbage"),
    ],
)
async def test_a_given_certificate_without_its_authority_is_a_sentence(body: Json | None, says: str) -> None:
    cluster = FakeCluster()
    if body is not None:
        cluster.put(body)
    with pytest.raises(CertificateMissing, match=says):
        await keeper(cluster, ExternalCaBundle(SECRET, "mine")).reconcile()
