"""`footplate-trainer diagnose`: request stacks, a trace or a memory snapshot from the ranks of a running job.

It is meant for `kubectl exec` into a pod of the run: the environment there has the coordinator's address and
the run's secret.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Final

from footplate_contracts.diagnosis import Diagnosis, DiagnosisKind, DiagnosisRequest
from footplate_contracts.names import COORDINATOR_PORT, Env, ExitCode
from footplate_elastic.agent.client import Connection, CoordinatorAddresses, Endpoint
from footplate_elastic.agent.errors import Unreachable
from footplate_elastic.protocol import wire
from footplate_elastic.protocol.outline import existing_file, read_token, whole_number
from footplate_trainer.errors import UserMistake

ANSWER_SECONDS: Final = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `diagnose`."""
    parser.add_argument("kind", choices=[kind.value for kind in DiagnosisKind], help="report of each rank")
    parser.add_argument("--steps", type=int, default=3, metavar="N", help="steps to record (%(default)s)")


def run(arguments: argparse.Namespace) -> ExitCode:
    """Send the request to the coordinator; raises UserMistake where there is none."""
    request = DiagnosisRequest(kind=DiagnosisKind(arguments.kind), steps=arguments.steps)
    diagnosis = request_diagnosis(endpoint(os.environ), request)
    where = (
        "pods' logs" if diagnosis.kind is DiagnosisKind.STACKS else "folder diagnostics/ of checkpoint.uri"
    )
    print(f"requested {diagnosis.kind} number {diagnosis.number}; see the {where}")
    return ExitCode.SUCCESS


def request_diagnosis(where: Endpoint, request: DiagnosisRequest) -> Diagnosis:
    """Request the diagnosis from the coordinator and return its response; raises UserMistake."""
    body = request.model_dump_json(by_alias=True)
    try:
        answer = Connection(CoordinatorAddresses(where)).request("POST", wire.DIAGNOSE, body, ANSWER_SECONDS)
    except Unreachable as error:
        raise UserMistake(f"the coordinator does not answer: {error}; run this in a pod of the run") from None
    if answer.status != 200:
        raise UserMistake(f"the coordinator rejected the request: {answer.body.decode(errors='replace')}")
    return Diagnosis.model_validate_json(answer.body)


def endpoint(environment: Mapping[str, str]) -> Endpoint:
    """Return the coordinator's endpoint from the pod's environment; raises UserMistake outside of a pod."""
    host = environment.get(Env.COORDINATOR_HOST, "")
    if not host:
        raise UserMistake(f"{Env.COORDINATOR_HOST} is unset: run this in a pod of the run")
    try:
        return Endpoint(
            host=host,
            hint="127.0.0.1" if Env.COORDINATOR_EPOCH in environment else "",
            port=whole_number(environment, Env.COORDINATOR_PORT, COORDINATOR_PORT),
            token=read_token(environment),
            certificate=existing_file(environment, Env.TLS_CERTIFICATE_FILE),
        )
    except ValueError as error:
        raise UserMistake(str(error)) from None
