"""Criteria, which rank weights for a one-shot or initial mask: a file and a row of `table` each."""

from __future__ import annotations

from tamtctl.pruning.criteria.table import CRITERIA as CRITERIA
from tamtctl.pruning.criteria.table import JOINED_BY as JOINED_BY
from tamtctl.pruning.criteria.table import REFERENCE as REFERENCE
from tamtctl.pruning.criteria.table import Criterion as Criterion
from tamtctl.pruning.criteria.table import baselines as baselines
from tamtctl.pruning.criteria.table import find_criterion as find_criterion
from tamtctl.pruning.criteria.table import is_criterion as is_criterion
from tamtctl.pruning.criteria.table import register as register
from tamtctl.pruning.criteria.together import asked as asked
from tamtctl.pruning.criteria.together import asked_together as asked_together
