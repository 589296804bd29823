"""Find, compare, fine-tune and share lottery tickets of pre-trained encoders.

Everything the command line does is a function here, with the same parameters. Settings
of a configuration have the names of the options, and one text or number stands for one
of several:

    >>> import tamtctl
    >>> config = tamtctl.SearchConfig.from_recipe("nano", sparsity=0.8, corpus="my-text.txt")
    >>> result = tamtctl.search(config)  # doctest: +SKIP
    >>> tamtctl.Ticket.from_pretrained("nano-0.8").target_sparsity
    0.8

Names are imported when they are first used: ``import tamtctl`` loads neither torch nor
transformers. Every error that a user can meet is a `TamtctlError`, whose text is one line.
In a notebook, calls show their progress, and results show themselves as tables.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tamtctl.comparison.api import compare as compare
    from tamtctl.comparison.api import make_part as make_part
    from tamtctl.comparison.api import plan_comparison as plan_comparison
    from tamtctl.comparison.config import CompareConfig as CompareConfig
    from tamtctl.comparison.result import Comparison as Comparison
    from tamtctl.comparison.speed.api import bench as bench
    from tamtctl.comparison.speed.config import BenchConfig as BenchConfig
    from tamtctl.comparison.speed.result import BenchResult as BenchResult
    from tamtctl.foundations.environment import env as env
    from tamtctl.foundations.errors import TamtctlError as TamtctlError
    from tamtctl.foundations.watching import ProgressBars as ProgressBars
    from tamtctl.foundations.watching import Silent as Silent
    from tamtctl.models.archives import unpack as unpack
    from tamtctl.models.files import nano_path as nano_path
    from tamtctl.models.semi_structured import semi_structured as semi_structured
    from tamtctl.pruning.combining.api import combine as combine
    from tamtctl.pruning.config import SearchConfig as SearchConfig
    from tamtctl.pruning.recovery.api import recover as recover
    from tamtctl.pruning.recovery.config import RecoverConfig as RecoverConfig
    from tamtctl.pruning.recovery.result import RecoverResult as RecoverResult
    from tamtctl.pruning.searching.api import derive as derive
    from tamtctl.pruning.searching.api import plan_search as plan_search
    from tamtctl.pruning.searching.api import search as search
    from tamtctl.pruning.searching.result import SearchPlan as SearchPlan
    from tamtctl.pruning.searching.result import SearchResult as SearchResult
    from tamtctl.tasks.evaluation.api import evaluate as evaluate
    from tamtctl.tasks.evaluation.api import label as label
    from tamtctl.tasks.evaluation.config import EvaluateConfig as EvaluateConfig
    from tamtctl.tasks.evaluation.result import Evaluation as Evaluation
    from tamtctl.tasks.evaluation.result import Labelled as Labelled
    from tamtctl.tasks.finetuning.api import finetune as finetune
    from tamtctl.tasks.finetuning.config import FinetuneConfig as FinetuneConfig
    from tamtctl.tasks.finetuning.result import FinetuneResult as FinetuneResult
    from tamtctl.ticket.caches import cache_contents as cache_contents
    from tamtctl.ticket.caches import clear_cache as clear_cache
    from tamtctl.ticket.exporting.api import export as export
    from tamtctl.ticket.heat_map import figure as figure
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

# Chapter → name → the module that has it, and what it is: the contents that help(tamtctl) shows.
_CONTENTS: dict[str, dict[str, tuple[str, str]]] = {
    "Find a ticket": {
        "SearchConfig": ("pruning.config", "what a search is told; from_recipe makes one"),
        "search": ("pruning.searching.api", "find a ticket"),
        "plan_search": ("pruning.searching.api", "what search would do"),
        "derive": ("pruning.searching.api", "another sparsity from the scores of a search"),
        "combine": ("pruning.combining.api", "make one ticket of several"),
        "RecoverConfig": ("pruning.recovery.config", "what a recovery is told"),
        "recover": ("pruning.recovery.api", "train what a ticket keeps, its zeros kept"),
        "RecoverResult": ("pruning.recovery.result", "its losses and its checkpoint"),
        "SearchPlan": ("pruning.searching.result", "what a search will do"),
        "SearchResult": ("pruning.searching.result", "its losses and its ticket"),
    },
    "Use a ticket": {
        "Ticket": ("ticket.ticket", "masks of a pre-trained encoder: load, apply, save"),
        "KeepZeros": ("ticket.keep_callback", "a Trainer's callback: zeros stay zeros"),
        "KeptZeros": ("ticket.keeping", "the zeros of a model that stay"),
        "keep_zeros": ("ticket.keeping", "keep the zeros that a model has"),
        "kept_zeros": ("ticket.keeping", "which zeros of a model are kept"),
        "export": ("ticket.exporting.api", "write the model with zeros, for other tools"),
        "semi_structured": ("models.semi_structured", "2:4 zeros, for a GPU's sparse kernels"),
        "unpack": ("models.archives", "unpack what export compressed"),
        "import_ticket": ("ticket.importing", "make a ticket of masks from elsewhere"),
        "nano_path": ("models.files", "the folder of the embedded model"),
    },
    "What a ticket is worth": {
        "FinetuneConfig": ("tasks.finetuning.config", "what a fine-tuning is told"),
        "finetune": ("tasks.finetuning.api", "train a ticket on a task, and score it"),
        "FinetuneResult": ("tasks.finetuning.result", "its metrics and checkpoints"),
        "EvaluateConfig": ("tasks.evaluation.config", "what an evaluation is told"),
        "evaluate": ("tasks.evaluation.api", "measure a ticket, a model or a checkpoint"),
        "Evaluation": ("tasks.evaluation.result", "what an evaluation found"),
        "label": ("tasks.evaluation.api", "let a checkpoint label your text"),
        "Labelled": ("tasks.evaluation.result", "labels and how sure they are"),
    },
    "Compare": {
        "CompareConfig": ("comparison.config", "what a comparison is told"),
        "compare": ("comparison.api", "tickets, or a sweep, beside the baselines"),
        "plan_comparison": ("comparison.api", "the runs that compare would make"),
        "make_part": ("comparison.api", "make a part of a sweep's runs"),
        "BenchConfig": ("comparison.speed.config", "what a bench is told"),
        "bench": ("comparison.speed.api", "how large and how fast models are"),
        "BenchResult": ("comparison.speed.result", "what a bench measured"),
        "Comparison": ("comparison.result", "what a comparison found"),
    },
    "Look at and share tickets": {
        "inspect_ticket": ("ticket.inspection", "what a ticket holds, and whether it is intact"),
        "compare_masks": ("ticket.inspection", "how alike several tickets are"),
        "figure": ("ticket.heat_map", "draw tickets by layer and matrix"),
        "list_tickets": ("ticket.listing", "all tickets at hand, and what is damaged"),
        "known_tickets": ("ticket.listing", "the intact ones"),
        "published_tickets": ("ticket.hub.catalogue", "those on the Hub"),
        "push": ("ticket.sharing", "publish a ticket on the Hub"),
        "pull": ("ticket.hub.pulling", "fetch one and verify it"),
    },
    "Besides": {
        "cache_contents": ("ticket.caches", "what is kept besides runs"),
        "clear_cache": ("ticket.caches", "remove it, while nobody uses it"),
        "env": ("foundations.environment", "what a bug report needs"),
        "ProgressBars": ("foundations.watching", "a watcher with bars"),
        "Silent": ("foundations.watching", "a watcher that says nothing"),
        "TamtctlError": ("foundations.errors", "the base of all errors"),
    },
}
_MODULE_OF = {name: row[0] for chapter in _CONTENTS.values() for name, row in chapter.items()}
__all__ = sorted(_MODULE_OF)

__doc__ = (__doc__ or "") + "".join(
    f"\n{chapter}:\n\n" + "".join(f"    {name:<19}{what}\n" for name, (_, what) in names.items())
    for chapter, names in _CONTENTS.items()
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("tamtctl")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'tamtctl' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tamtctl.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
