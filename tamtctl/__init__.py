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
    from tamtctl.comparison.api import compare as compare
    from tamtctl.comparison.config import CompareConfig as CompareConfig
    from tamtctl.comparison.result import Comparison as Comparison
    from tamtctl.comparison.speed.api import bench as bench
    from tamtctl.comparison.speed.config import BenchConfig as BenchConfig
    from tamtctl.comparison.speed.result import BenchResult as BenchResult
    from tamtctl.foundations.errors import TamtctlError as TamtctlError
    from tamtctl.foundations.watching import ProgressBars as ProgressBars
    from tamtctl.foundations.watching import Silent as Silent
    from tamtctl.models.files import nano_path as nano_path
    from tamtctl.pruning.combining.api import combine as combine
    from tamtctl.pruning.config import SearchConfig as SearchConfig
    from tamtctl.pruning.recovery.api import recover as recover
    from tamtctl.pruning.recovery.config import RecoverConfig as RecoverConfig
    from tamtctl.pruning.recovery.result import RecoverResult as RecoverResult
    from tamtctl.pruning.searching.api import plan_search as plan_search
    from tamtctl.pruning.searching.api import search as search
    from tamtctl.pruning.searching.result import SearchPlan as SearchPlan
    from tamtctl.pruning.searching.result import SearchResult as SearchResult
    from tamtctl.tasks.evaluation.api import evaluate as evaluate
    from tamtctl.tasks.evaluation.config import EvaluateConfig as EvaluateConfig
    from tamtctl.tasks.evaluation.result import Evaluation as Evaluation
    from tamtctl.tasks.finetuning.api import finetune as finetune
    from tamtctl.tasks.finetuning.config import FinetuneConfig as FinetuneConfig
    from tamtctl.tasks.finetuning.result import FinetuneResult as FinetuneResult
    from tamtctl.ticket.export_formats import export as export
    from tamtctl.ticket.hub.catalogue import published_tickets as published_tickets
    from tamtctl.ticket.hub.pulling import pull as pull
    from tamtctl.ticket.importing import import_ticket as import_ticket
    from tamtctl.ticket.inspection import compare_masks as compare_masks
    from tamtctl.ticket.inspection import inspect_ticket as inspect_ticket
    from tamtctl.ticket.keep_callback import KeepZeros as KeepZeros
    from tamtctl.ticket.keeping import KeptZeros as KeptZeros
    from tamtctl.ticket.keeping import keep_zeros as keep_zeros
    from tamtctl.ticket.keeping import kept_zeros as kept_zeros
    from tamtctl.ticket.listing import known_tickets as known_tickets
    from tamtctl.ticket.listing import list_tickets as list_tickets
    from tamtctl.ticket.sharing import push as push
    from tamtctl.ticket.ticket import Ticket as Ticket

_MODULE_OF = {
    "BenchConfig": "comparison.speed.config",
    "BenchResult": "comparison.speed.result",
    "CompareConfig": "comparison.config",
    "Comparison": "comparison.result",
    "EvaluateConfig": "tasks.evaluation.config",
    "Evaluation": "tasks.evaluation.result",
    "FinetuneConfig": "tasks.finetuning.config",
    "FinetuneResult": "tasks.finetuning.result",
    "KeepZeros": "ticket.keep_callback",
    "KeptZeros": "ticket.keeping",
    "ProgressBars": "foundations.watching",
    "RecoverConfig": "pruning.recovery.config",
    "RecoverResult": "pruning.recovery.result",
    "SearchConfig": "pruning.config",
    "SearchPlan": "pruning.searching.result",
    "SearchResult": "pruning.searching.result",
    "Silent": "foundations.watching",
    "TamtctlError": "foundations.errors",
    "Ticket": "ticket.ticket",
    "bench": "comparison.speed.api",
    "combine": "pruning.combining.api",
    "compare": "comparison.api",
    "evaluate": "tasks.evaluation.api",
    "finetune": "tasks.finetuning.api",
    "compare_masks": "ticket.inspection",
    "export": "ticket.export_formats",
    "import_ticket": "ticket.importing",
    "inspect_ticket": "ticket.inspection",
    "keep_zeros": "ticket.keeping",
    "kept_zeros": "ticket.keeping",
    "known_tickets": "ticket.listing",
    "list_tickets": "ticket.listing",
    "nano_path": "models.files",
    "published_tickets": "ticket.hub.catalogue",
    "pull": "ticket.hub.pulling",
    "push": "ticket.sharing",
    "plan_search": "pruning.searching.api",
    "recover": "pruning.recovery.api",
    "search": "pruning.searching.api",
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
