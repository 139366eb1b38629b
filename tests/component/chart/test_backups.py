"""What the chart makes of `api.backup`: a volume, what the API is told, and a restore before it starts."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.support.chart import container, environment, mounts, one, rendered, template, volumes

ON: Final = ("--set", "api.backup.enabled=true")
FILE: Final = "footplate-2026-01-31T03-17-00Z.db"
FOLDER: Final = "/var/lib/footplate-backups"


def api(*flags: str) -> dict[str, Any]:
    return one(rendered(*ON, *flags), "Deployment", "footplate-api")


def test_a_volume_of_their_own_outlives_the_release() -> None:
    objects = rendered(*ON, "--set", "api.backup.persistence.storageClassName=far")
    claim = one(objects, "PersistentVolumeClaim", "footplate-api-backups")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"]["storageClassName"] == "far"
    assert claim["spec"]["resources"] == {"requests": {"storage": "16Gi"}}
    deployment = one(objects, "Deployment", "footplate-api")
    assert volumes(deployment)["backups"] == {"persistentVolumeClaim": {"claimName": "footplate-api-backups"}}
    assert mounts(deployment)["backups"] == FOLDER
    told = environment(deployment)
    assert told["FOOTPLATE_BACKUP_FOLDER"] == FOLDER
    assert (told["FOOTPLATE_BACKUP_SCHEDULE"], told["FOOTPLATE_BACKUP_KEEP"]) == ("17 3 * * *", "7")


def test_a_claim_that_is_there_is_taken() -> None:
    objects = rendered(*ON, "--set", "api.backup.persistence.existingClaim=mine")
    claims = [item["metadata"]["name"] for item in objects if item["kind"] == "PersistentVolumeClaim"]
    assert claims == ["footplate-api"]
    deployment = one(objects, "Deployment", "footplate-api")
    assert volumes(deployment)["backups"] == {"persistentVolumeClaim": {"claimName": "mine"}}


def test_without_back_ups_nothing_of_them_is_there() -> None:
    objects = rendered()
    deployment = one(objects, "Deployment", "footplate-api")
    assert "backups" not in volumes(deployment) and "backups" not in mounts(deployment)
    assert not [name for name in environment(deployment) if "BACKUP" in name or "RESTORE" in name]
    assert "initContainers" not in deployment["spec"]["template"]["spec"]


def test_a_restore_comes_before_the_api_as_restricted_as_that_and_once() -> None:
    deployment = api("--set", f"api.backup.restoreFrom={FILE}")
    [first] = deployment["spec"]["template"]["spec"]["initContainers"]
    assert first["command"][-4:] == ["restore", FILE, "--replace", "--once"]
    assert first["securityContext"] == container(deployment)["securityContext"]
    assert first["image"] == container(deployment)["image"]
    where = {item["name"]: (item["mountPath"], item.get("readOnly", False)) for item in first["volumeMounts"]}
    assert where == {"data": (mounts(deployment)["data"], False), "backups": (FOLDER, True)}
    told = {item["name"]: item["value"] for item in first["env"]}
    assert told["FOOTPLATE_DATABASE_URL"] == environment(deployment)["FOOTPLATE_DATABASE_URL"]
    assert told["FOOTPLATE_BACKUP_FOLDER"] == FOLDER
    assert environment(deployment)["FOOTPLATE_RESTORE_FROM"] == FILE, (
        "or the API would forget that it was done"
    )


def test_the_container_that_restores_is_there_without_a_name_too() -> None:
    """Or one that an upgrade brought, which failed by it, would stay when the name is withdrawn."""
    deployment = api()
    [first] = deployment["spec"]["template"]["spec"]["initContainers"]
    assert first["command"][-4:] == ["restore", "", "--replace", "--once"]
    assert environment(deployment)["FOOTPLATE_RESTORE_FROM"] == ""


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        pytest.param(
            "api.backup.enabled=true,api.database.url=postgresql://h/d",
            "api.backup.enabled is true, but api.database names a PostgreSQL database, which needs pg_dump",
            id="postgresql",
        ),
        pytest.param(
            f"api.backup.restoreFrom={FILE}",
            f'api.backup.restoreFrom is "{FILE}", but api.backup.enabled is false',
            id="restore-without-volume",
        ),
        pytest.param(
            "api.backup.enabled=true,api.backup.persistence.existingClaim=footplate-api",
            'api.backup.persistence.existingClaim is "footplate-api", the volume of the database itself',
            id="volume-of-the-database",
        ),
        pytest.param("api.backup.schedule=@daily", "at '/api/backup/schedule'", id="schedule-of-one-word"),
        pytest.param("api.backup.schedule=60 3 * * *", "at '/api/backup/schedule'", id="sixtieth-minute"),
        pytest.param("api.backup.keep=0", "at '/api/backup/keep'", id="none-kept"),
        pytest.param("api.backup.restoreFrom=../x", "at '/api/backup/restoreFrom'", id="another-folder"),
    ],
)
def test_wrong_values_are_refused(flag: str, says: str) -> None:
    done = template("--set", flag)
    assert done.returncode != 0
    assert says in done.stderr
