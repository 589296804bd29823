"""How many weights each matrix keeps: one file and one row of `table` for each allocation."""

from __future__ import annotations

from tamtctl.pruning.allocations.table import ALLOCATIONS as ALLOCATIONS
from tamtctl.pruning.allocations.table import UNIFORM as UNIFORM
from tamtctl.pruning.allocations.table import Allocation as Allocation
from tamtctl.pruning.allocations.table import register as register
