"""Loggers, which get a run's metrics, too: one file and one row of `table` each."""

from __future__ import annotations

from tamtctl.training.loggers.table import LOGGERS as LOGGERS
from tamtctl.training.loggers.table import Logger as Logger
from tamtctl.training.loggers.table import register as register
