"""The edges without their sockets: settings, Events, paths."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tools.crds import all_definitions

from footplate_contracts.environment import read_settings
from footplate_contracts.names import Phase
from footplate_contracts.v1alpha1.pods import PullPolicy
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator.__main__ import KINDS
from footplate_operator.certificates.reconciler import ExternalCaBundle
from footplate_operator.errors import ClusterError
from footplate_operator.profiles import PROFILE
from footplate_operator.runtime import events
from footplate_operator.runtime.controller import Controller
from footplate_operator.runtime.kinds import CONFIG_MAP, POD, SECRET
from footplate_operator.settings import Settings
from footplate_operator.trainingrun.events import phase_event
from footplate_operator.trainingrun.revision import Defaults
from footplate_operator.trainingrun.run import TRAINING_RUN, decode
from tests.support.fake_cluster import Clock
from tests.support.nonempty import nonempty
from tests.support.operator_fakes import run_manifest

NOW = Clock()()

Tell = Callable[[Mapping[str, str]], None]
IMAGES = {"FOOTPLATE_TRAINER_IMAGE": "t:1", "FOOTPLATE_COORDINATOR_IMAGE": "c:1"}


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        pytest.param({}, "FOOTPLATE_TRAINER_IMAGE is not set", id="no-image"),
        pytest.param(
            {**IMAGES, "FOOTPLATE_METRICS_PORT": "http"},
            "FOOTPLATE_METRICS_PORT is 'http'; must be a whole number",
            id="port",
        ),
        pytest.param(
            {**IMAGES, "FOOTPLATE_LOG_FORMAT": "xml"},
            "FOOTPLATE_LOG_FORMAT is 'xml'; must be one of logfmt, json, text",
            id="log-format",
        ),
        pytest.param(
            {**IMAGES, "FOOTPLATE_IMAGE_PULL_POLICY": "Sometimes"},
            "FOOTPLATE_IMAGE_PULL_POLICY is 'Sometimes'; must be one of Always, IfNotPresent, Never",
            id="pull-policy",
        ),
        pytest.param(
            {**IMAGES, "FOOTPLATE_USAGE_RETENTION_DAYS": "-1"},
            "FOOTPLATE_USAGE_RETENTION_DAYS is '-1'; must be a number, 0 or more",
            id="days",
        ),
        pytest.param(
            {**IMAGES, "FOOTPLATE_LOG_LEVEL": "loud"},
            "FOOTPLATE_LOG_LEVEL is 'LOUD'; must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL",
            id="log-level",
        ),
    ],
)
def test_settings_that_cannot_work_are_named(told: Tell, environment: dict[str, str], says: str) -> None:
    told(environment)
    with pytest.raises(ValueError, match=says.split(";")[0]) as caught:
        read_settings(Settings)
    assert str(caught.value).startswith(says)


def test_settings_have_defaults(told: Tell) -> None:
    told({**IMAGES, "FOOTPLATE_WATCH_NAMESPACES": "a, b", "FOOTPLATE_METRICS_PORT": ""})
    own = read_settings(Settings)
    assert (own.watch_namespaces, own.metrics_port, own.namespace) == (("a", "b"), 8080, "default")
    assert own.identity.endswith(f"-{os.getpid()}")
    assert own.defaults == Defaults(trainer_image="t:1", coordinator_image="c:1")


@pytest.mark.parametrize(
    ("said", "frozen"),
    [
        pytest.param("Always", PullPolicy.ALWAYS, id="another"),
        pytest.param("IfNotPresent", None, id="the-same"),  # as an earlier release froze it
        pytest.param("", None, id="none"),
    ],
)
def test_the_coordinators_pull_policy_is_its_own(told: Tell, said: str, frozen: PullPolicy | None) -> None:
    told({**IMAGES, "FOOTPLATE_COORDINATOR_IMAGE_PULL_POLICY": said})
    assert read_settings(Settings).defaults.coordinator_image_pull_policy is frozen


@pytest.mark.parametrize(("said", "frozen"), [("site, mirror", ["site", "mirror"]), ("", None)])
def test_pull_secrets_of_runs(told: Tell, said: str, frozen: list[str] | None) -> None:
    told({**IMAGES, "FOOTPLATE_IMAGE_PULL_SECRETS": said})
    assert read_settings(Settings).defaults.image_pull_secrets == frozen


def test_an_operator_in_a_pod_is_called_as_its_pod(told: Tell) -> None:
    told({**IMAGES, "KUBERNETES_SERVICE_HOST": "10.96.0.1", "FOOTPLATE_POD_NAME": "operator-x"})
    assert read_settings(Settings).identity == "operator-x"


@pytest.mark.parametrize(
    ("environment", "kept", "given"),
    [
        pytest.param({}, False, None, id="no-api"),
        pytest.param({"API_SERVICE": "api"}, True, None, id="its-own"),
        pytest.param(
            {"API_SERVICE": "api", "API_CA_SECRET": "mine"},
            True,
            ExternalCaBundle(SECRET, "mine"),
            id="given",
        ),
        pytest.param(
            {"API_SERVICE": "api", "API_CA_SECRET": "mine", "API_CA_CONFIG_MAP": "trust"},
            True,
            ExternalCaBundle(CONFIG_MAP, "trust"),
            id="given-and-vouched-for-elsewhere",
        ),
    ],
)
def test_who_keeps_the_certificate(
    told: Tell, environment: dict[str, str], kept: bool, given: ExternalCaBundle | None
) -> None:
    told(IMAGES | {f"FOOTPLATE_{name}": value for name, value in environment.items()})
    own = read_settings(Settings)
    assert (own.manages_certificates, own.external_ca_bundle) == (kept, given)


def _run(phase: Phase | None) -> Any:
    body = run_manifest()
    body["metadata"] |= {"uid": "u", "creationTimestamp": "2026-01-31T12:00:00Z"}
    body["status"] = {"phase": phase.value} if phase else {}
    return decode(body)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        pytest.param(None, Phase.STARTING, "Normal", id="starts"),
        pytest.param(Phase.RUNNING, Phase.RESTARTING, "Warning", id="restarts"),
        pytest.param(Phase.RUNNING, Phase.FAILED, "Warning", id="fails"),
        pytest.param(Phase.RUNNING, Phase.RUNNING, None, id="goes-on"),
    ],
)
def test_a_change_of_phase_is_an_event(before: Phase | None, after: Phase, kind: str | None) -> None:
    event = phase_event(_run(before), TrainingRunStatus(phase=after))
    told = event and events.manifest(TRAINING_RUN, _run(before), event, "me", NOW)
    assert (told["type"] if told else None) == kind


def test_the_same_event_has_the_same_name() -> None:
    status = TrainingRunStatus(phase=Phase.RUNNING, last_transition_time="2026-01-31T12:00:00.000Z")
    event = phase_event(_run(None), status)
    assert event is not None
    names = {
        events.manifest(TRAINING_RUN, _run(None), event, identity, NOW)["metadata"]["name"]
        for identity in ("first", "second")
    }
    assert len(names) == 1


@pytest.mark.parametrize(
    ("kind", "namespace", "name", "path"),
    [
        pytest.param(POD, "ns", "p", "/api/v1/namespaces/ns/pods/p", id="core"),
        pytest.param(PROFILE, "", "x", "/apis/footplate.dev/v1alpha1/computeprofiles/x", id="cluster"),
        pytest.param(TRAINING_RUN, "", "", "/apis/footplate.dev/v1alpha1/trainingruns", id="everywhere"),
    ],
)
def test_paths(kind: Any, namespace: str, name: str, path: str) -> None:
    assert kind.path(namespace, name) == path


def test_an_error_keeps_what_the_api_server_said() -> None:
    error = ClusterError("exceeded quota", 403, "Forbidden")
    assert (str(error), error.status, error.reason) == ("exceeded quota", 403, "Forbidden")


def test_every_kind_of_ours_that_is_watched_has_a_definition() -> None:
    """The operator waits for its kinds before it leads: one that nobody installs would stop all others."""
    defined = {definition["spec"]["names"]["kind"] for definition in all_definitions().values()}
    served = {
        kind for kind in Controller.__subclasses__() if kind.__module__.startswith("footplate_operator.")
    }
    assert served == KINDS.keys()
    watched = {kind for controller in served for kind in (controller.kind, *controller.parameters)}
    assert {kind.name for kind in nonempty(watched) if "footplate" in kind.api_version} <= defined
