"""How many replicas there are, where they are, and how many may be taken away at once."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.support.chart import environment, one, rendered, template

POSTGRES: Final = "--set=api.database.url=postgresql://h/footplate"
TWO: Final = {"operator": ("--set=operator.replicaCount=2",), "api": ("--set=api.replicaCount=2", POSTGRES)}


def budgets(*flags: str) -> dict[str, Any]:
    return {
        item["metadata"]["name"]: item["spec"]
        for item in rendered(*flags)
        if item["kind"] == "PodDisruptionBudget"
    }


@pytest.mark.parametrize("component", TWO)
def test_a_budget_is_there_for_more_than_one_replica_alone(component: str) -> None:
    """Of one replica it would keep a node from being drained for ever."""
    assert budgets(POSTGRES) == {}
    objects = rendered(*TWO[component])
    deployment = one(objects, "Deployment", f"footplate-{component}")
    assert deployment["spec"]["replicas"] == 2
    [(name, budget)] = budgets(*TWO[component]).items()
    assert name == f"footplate-{component}"
    assert budget == {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    assert budgets(*TWO[component], f"--set={component}.podDisruptionBudget.enabled=false") == {}


@pytest.mark.parametrize("component", TWO)
def test_the_pods_of_a_service_are_those_of_the_deployment_alone(component: str) -> None:
    objects = rendered(*TWO[component])
    selector = one(objects, "Service", f"footplate-{component}")["spec"]["selector"]
    deployment = one(objects, "Deployment", f"footplate-{component}")["spec"]
    assert selector == deployment["selector"]["matchLabels"]


@pytest.mark.parametrize("component", TWO)
def test_replicas_are_spread(component: str) -> None:
    zones = {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
    own = {"labelSelector": {"matchLabels": {"team": "ml"}}}
    path = f"{component}.topologySpreadConstraints"
    flags = [f"--set={path}[{index}].{name}={value}" for index in (0, 1) for name, value in zones.items()]
    objects = rendered(*flags, f"--set={path}[1].labelSelector.matchLabels.team=ml")
    deployment = one(objects, "Deployment", f"footplate-{component}")["spec"]
    usual, theirs = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert usual == zones | {"labelSelector": deployment["selector"]}
    assert theirs == zones | own


@pytest.mark.parametrize(
    ("flags", "strategy"),
    [
        pytest.param((), {"type": "Recreate"}, id="sqlite"),
        pytest.param((POSTGRES,), {"type": "RollingUpdate"}, id="postgresql"),
        pytest.param(TWO["api"], {"type": "RollingUpdate"}, id="two"),
    ],
)
def test_a_file_has_one_writer_at_a_time(flags: tuple[str, ...], strategy: dict[str, str]) -> None:
    assert one(rendered(*flags), "Deployment", "footplate-api")["spec"]["strategy"] == strategy


@pytest.mark.parametrize("component", TWO)
def test_further_variables_reach_the_container(component: str) -> None:
    """Also such as the program knows, and the chart has no value for."""
    flags = (f"--set={component}.extraEnv[0].name=FOOTPLATE_MORE", f"--set={component}.extraEnv[0].value=a")
    told = environment(one(rendered(*flags), "Deployment", f"footplate-{component}"))
    assert told["FOOTPLATE_MORE"] == "a" and "FOOTPLATE_LOG_LEVEL" in told


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        pytest.param(
            "api.replicaCount=2", "api.replicaCount is 2, but the history is a SQLite file", id="one-file"
        ),
        pytest.param(
            "api.replicaCount=2,api.persistence.accessMode=ReadWriteMany",
            "but a SQLite file has one writer",
            id="one-file-of-many",
        ),
        pytest.param("operator.replicaCount=0", "at '/operator/replicaCount'", id="none"),
        pytest.param(
            "operator.podDisruptionBudget.maxUnavailable=0",
            "at '/operator/podDisruptionBudget/maxUnavailable'",
            id="no-drain",
        ),
        pytest.param(
            "api.extraEnv[0].name=FOOTPLATE_DATABASE_URL",
            "api.extraEnv sets FOOTPLATE_DATABASE_URL, which is already set",
            id="variable-of-the-chart",
        ),
        pytest.param(
            "operator.extraEnv[0].name=TZ,operator.extraEnv[1].name=TZ",
            "operator.extraEnv sets TZ, which is already set",
            id="variable-twice",
        ),
        pytest.param("api.extraEnv[0].value=1", "at '/api/extraEnv/0'", id="variable-without-a-name"),
    ],
)
def test_replicas_that_cannot_be_are_refused(flag: str, says: str) -> None:
    done = template("--set", flag)
    assert done.returncode != 0 and says in done.stderr, done.stderr
