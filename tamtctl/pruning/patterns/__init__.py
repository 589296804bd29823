"""Sparsity patterns, which say what sets of weights a mask may keep: one file and one row each."""

from __future__ import annotations

from tamtctl.pruning.patterns.families import check_pattern as check_pattern
from tamtctl.pruning.patterns.families import find_pattern as find_pattern
from tamtctl.pruning.patterns.families import pattern_names as pattern_names
from tamtctl.pruning.patterns.families import usual_patterns as usual_patterns
from tamtctl.pruning.patterns.table import PATTERNS as PATTERNS
from tamtctl.pruning.patterns.table import UNSTRUCTURED as UNSTRUCTURED
from tamtctl.pruning.patterns.table import Pattern as Pattern
from tamtctl.pruning.patterns.table import register as register
