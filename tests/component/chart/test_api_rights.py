"""What the API's own account may do."""

from __future__ import annotations

from typing import Final

from tests.support.chart import one, rendered, rights

READING: Final = {"get", "list", "watch"}


def test_rights_of_the_api() -> None:
    objects = rendered()
    assert rights(one(objects, "ClusterRole", "footplate-api")) == {
        ("footplate.dev", "trainingruns"): READING | {"create", "delete"}
    }
    assert rights(one(objects, "ClusterRole", "footplate-api-cluster")) == {
        ("footplate.dev", "usagerecords"): READING | {"delete"},
        ("footplate.dev", "priceentries"): READING | {"create"},
        **{("footplate.dev", kind): READING for kind in ("carbonintensities", "computeprofiles")},
        ("", "namespaces"): READING,
        ("authentication.k8s.io", "tokenreviews"): {"create"},
        ("authorization.k8s.io", "subjectaccessreviews"): {"create"},
    }
