"""The terms of an objective, which a mask is trained for: one file and one row of `table` each."""

from __future__ import annotations

from tamtctl.pruning.objectives.table import TERMS as TERMS
from tamtctl.pruning.objectives.table import Term as Term
from tamtctl.pruning.objectives.table import Terms as Terms
from tamtctl.pruning.objectives.table import headless as headless
from tamtctl.pruning.objectives.table import objectives as objectives
from tamtctl.pruning.objectives.table import register as register
from tamtctl.pruning.objectives.table import short_unit as short_unit
from tamtctl.pruning.objectives.table import terms_of as terms_of
from tamtctl.pruning.objectives.table import usual_for_sentences as usual_for_sentences
