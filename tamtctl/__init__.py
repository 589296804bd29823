"""Find, compare, fine-tune and share lottery tickets of pre-trained encoders.

Everything the command line does is a function here, with the same parameters:

    >>> import tamtctl
    >>> config = tamtctl.SearchConfig.from_recipe("nano", sparsity=0.8)
    >>> result = tamtctl.search(config)
    >>> tamtctl.Ticket.from_pretrained(result.ticket).apply(model, keep=True)

Names are imported when first used, so that ``import tamtctl`` loads neither torch nor transformers.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tamtctl.comparison import compare as compare
    from tamtctl.config import EvaluateConfig as EvaluateConfig
    from tamtctl.config import FinetuneConfig as FinetuneConfig
    from tamtctl.config import SearchConfig as SearchConfig
    from tamtctl.errors import TamtctlError as TamtctlError
    from tamtctl.evaluation import Evaluation as Evaluation
    from tamtctl.evaluation import evaluate as evaluate
    from tamtctl.exporting import export as export
    from tamtctl.findings import Comparison as Comparison
    from tamtctl.finetuning import FinetuneResult as FinetuneResult
    from tamtctl.finetuning import finetune as finetune
    from tamtctl.hub import published_tickets as published_tickets
    from tamtctl.hub import pull as pull
    from tamtctl.hub import push as push
    from tamtctl.importing import import_ticket as import_ticket
    from tamtctl.inspecting import compare_masks as compare_masks
    from tamtctl.inspecting import inspect_ticket as inspect_ticket
    from tamtctl.keep_callback import KeepZeros as KeepZeros
    from tamtctl.keeping import KeptZeros as KeptZeros
    from tamtctl.keeping import keep_zeros as keep_zeros
    from tamtctl.keeping import kept_zeros as kept_zeros
    from tamtctl.listing import known_tickets as known_tickets
    from tamtctl.listing import list_tickets as list_tickets
    from tamtctl.nano import nano_path as nano_path
    from tamtctl.searching import SearchPlan as SearchPlan
    from tamtctl.searching import SearchResult as SearchResult
    from tamtctl.searching import plan_search as plan_search
    from tamtctl.searching import search as search
    from tamtctl.sweep import CompareConfig as CompareConfig
    from tamtctl.ticket import Ticket as Ticket
    from tamtctl.watching import ProgressBars as ProgressBars
    from tamtctl.watching import Silent as Silent

_MODULE_OF = {
    "CompareConfig": "sweep",
    "Comparison": "findings",
    "EvaluateConfig": "config",
    "Evaluation": "evaluation",
    "FinetuneConfig": "config",
    "FinetuneResult": "finetuning",
    "KeepZeros": "keep_callback",
    "KeptZeros": "keeping",
    "ProgressBars": "watching",
    "SearchConfig": "config",
    "SearchPlan": "searching",
    "SearchResult": "searching",
    "Silent": "watching",
    "TamtctlError": "errors",
    "Ticket": "ticket",
    "compare": "comparison",
    "evaluate": "evaluation",
    "finetune": "finetuning",
    "compare_masks": "inspecting",
    "export": "exporting",
    "import_ticket": "importing",
    "inspect_ticket": "inspecting",
    "keep_zeros": "keeping",
    "kept_zeros": "keeping",
    "known_tickets": "listing",
    "list_tickets": "listing",
    "nano_path": "nano",
    "published_tickets": "hub",
    "pull": "hub",
    "push": "hub",
    "plan_search": "searching",
    "search": "searching",
}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("tamtctl")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'tamtctl' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tamtctl.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
