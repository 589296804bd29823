"""MLflow: a run of the experiment ``tamtctl``, or of the one that ``MLFLOW_EXPERIMENT_NAME`` names.

It uses MLflow's client, which sends nothing else. The fluent interface would also send the user's
name, the path of the program and the commit of the working directory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from tamtctl.training.loggers.logged import PROJECT, LoggedRun


class _Run:
    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.id = run_id
        self._client = client

    def write(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self.id, metrics=metrics)

    def close(self) -> None:
        self._client.set_terminated(self.id)


def open_log(run: LoggedRun) -> _Run:
    """Begin a run, or go on with it."""
    client = MlflowClient()
    if run.id is not None:
        client.update_run(run.id, status="RUNNING")
        return _Run(client, run.id)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    known = client.get_experiment_by_name(name)
    experiment = known.experiment_id if known else client.create_experiment(name)
    run_id = client.create_run(experiment, run_name=run.name).info.run_id
    told = [Param(key, str(value)) for key, value in run.configuration.items()]
    client.log_batch(run_id, params=told)
    return _Run(client, run_id)
