"""A gang trains as a user that no file of accounts lists, of group 0, as OpenShift starts it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.names import Env, WorkerId
from footplate_operator.runtime.kinds import Json
from tests.component.footplate_elastic.agent.gang import Gang
from tests.support.operator_runs import frozen, run, worker_pod
from tests.support.tiny import tiny_config

USER, GROUP = 1000680000, 0
# The interpreter of a checkout may lie below a folder of root's; a pod's image has none such.
AS_USER = (
    "setpriv",
    f"--reuid={USER}",
    f"--regid={GROUP}",
    "--clear-groups",
    "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
    "--bounding-set=-all,+dac_read_search",
)
STEPS = 6


class Strangers(Gang):
    """A gang whose processes all are of that user, with a pod's environment."""

    def _start(self, command: list[str], environment: dict[str, str], name: str) -> subprocess.Popen[bytes]:
        return super()._start([*AS_USER, *command], environment, name)


def pod_environment() -> dict[str, str]:
    """The variables of a worker whose profile leaves ids to the platform, which are not Footplate's own."""
    subject = run()
    pod: Json = worker_pod(subject, frozen(subject, securityContext={}), WorkerId(0, 0), "")
    ours = {str(name) for name in Env}
    env = pod["spec"]["containers"][0]["env"]
    return {variable["name"]: variable["value"] for variable in env if variable["name"] not in ours}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_gloo_run_of_a_user_without_a_name(tmp_path: Path, shards: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="ids-") as folder:
        scratch, checkpoints = Path(folder), Path(folder, "checkpoints")
        scratch.chmod(0o777)  # as an emptyDir has it
        checkpoints.mkdir()
        checkpoints.chmod(0o770)  # root:root, which group 0 may write
        gang = Strangers(tmp_path, local_world_size=1)
        gang.use_trainer(
            tiny_config(shards, checkpoints, [f"training.steps={STEPS}", "checkpoint.everySteps=3"])
        )
        gang.extra |= pod_environment() | {"HOME": folder, "TMPDIR": folder}
        try:
            agents = gang.start()
            state = gang.wait_for(lambda state: state.state is RunState.FINISHED)
            assert state.progress.step == STEPS
            assert [agent.wait(60) for agent in agents] == [0, 0], gang.logs()
        finally:
            gang.close()
        written = [path.stat() for path in checkpoints.rglob("*")]
    assert len(written) > 4
    assert {(stat.st_uid, stat.st_gid) for stat in written} == {(USER, GROUP)}
