"""How the weights that are kept are shared out over the matrices: one file and one row each."""

from __future__ import annotations

from tamtctl.pruning.allocations.table import ALLOCATIONS as ALLOCATIONS
from tamtctl.pruning.allocations.table import UNIFORM as UNIFORM
from tamtctl.pruning.allocations.table import Allocation as Allocation
from tamtctl.pruning.allocations.table import register as register
