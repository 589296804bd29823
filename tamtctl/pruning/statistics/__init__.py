"""Statistics of a calibration text, for criteria: one file and one row of `table` each."""

from __future__ import annotations

from tamtctl.pruning.statistics.table import STATISTICS as STATISTICS
from tamtctl.pruning.statistics.table import Statistic as Statistic
from tamtctl.pruning.statistics.table import register as register
