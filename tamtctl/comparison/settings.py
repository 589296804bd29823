"""The settings of a comparison, each declared once; `config` derives the searches from them.

Imports nothing heavy, so that the command line can make options of them before it loads torch.
"""

from __future__ import annotations

from collections.abc import Sequence

from tamtctl.data.units import rows_setting
from tamtctl.foundations import shared_settings as shared
from tamtctl.foundations.checks import (
    at_least,
    different,
    each,
    given,
    positive,
    require,
    seed_number,
)
from tamtctl.foundations.config import (
    DATA,
    METHOD,
    OUTPUT,
    TRAINING,
    Config,
    Typed,
    configuration,
    setting,
)
from tamtctl.foundations.errors import UsageError
from tamtctl.pruning.allocations import ALLOCATIONS
from tamtctl.pruning.criteria import CRITERIA
from tamtctl.pruning.methods import check_sweep_method, default_methods, sweep_methods
from tamtctl.pruning.patterns import check_pattern, pattern_names, usual_patterns
from tamtctl.pruning.recipes import RECIPES, Recipe
from tamtctl.pruning.sparsities import check_sparsity, cut_sparsities
from tamtctl.tasks.benchmarks.table import tasks_without_training
from tamtctl.tasks.registry import TASKS
from tamtctl.ticket.local_names import ticket_names

BUDGETS = ("steps", "seconds")


def _check_sparsity(_: str, sparsity: float) -> None:
    check_sparsity(sparsity)
    if len(cut_sparsities(sparsity)) == 1:
        raise UsageError(
            f"--sparsity {sparsity:g}: imp reaches it without training, so there is no equal "
            "budget; give sparsities above 0.1"
        )


def _check_text_columns(option: str, columns: Sequence[str]) -> None:
    require(option, 1 <= len(columns) <= 2, "given once, or twice for pairs", columns)
    different(option, columns)


@configuration
class CompareSettings(Config):
    """The settings of a comparison."""

    tickets: Sequence[str] = setting(
        default=(),
        help="Tickets to compare: folder, packaged name or Hub id. Without any, --sparsity says "
        "what to find.\n\nThey stand beside the dense model, random and magnitude masks. What "
        "recover wrote of one of them has a row of its own, which is not ranked with masks.",
        panel=METHOD,
        proposed=ticket_names,
        is_common=True,
        typed=Typed(is_argument=True, metavar="TICKET"),
    )
    sparsities: Sequence[float] = setting(
        default=(),
        help="Sparsities of a sweep, above 0.1, such as 0.5,0.7,0.9.",
        panel=METHOD,
        is_common=True,
        check=each(_check_sparsity),
        typed=Typed(name="sparsity", between_commas=True),
    )
    methods: Sequence[str] = setting(
        default=(),
        help="Methods of the sweep, of {choices}, or criteria joined by *; by default "
        f"{', '.join(default_methods(has_head=True, has_pooling=False))}.\n\nThe table has their "
        "order. Where --tasks are fine-tuned on, tamt-kd is among them, too. A model without "
        "masked-LM head is compared by default with "
        f"{', '.join(default_methods(has_head=False, has_pooling=False))}.",
        panel=METHOD,
        is_common=True,
        choices=sweep_methods,
        is_open=True,
        check=each(check_sweep_method),
        typed=Typed(between_commas=True),
    )
    pattern: str | None = setting(
        default=None,
        help="Which weights the masks of the sweep may keep together, one of {choices}; by default "
        "the recipe's, or unstructured.",
        panel=METHOD,
        choices=pattern_names,
        completed=usual_patterns,
        is_open=True,
        check=check_pattern,
        before=None,
    )
    allocation: str | None = setting(
        default=None,
        help="How the weights that are kept are shared out over the matrices, one of {choices}, "
        "alike for all methods; by default the recipe's, or uniform.",
        panel=METHOD,
        choices=ALLOCATIONS,
        before=None,
    )
    budget_criterion: str | None = setting(
        default=None,
        help="The criterion that decides how many weights each matrix keeps, one of {choices}; "
        "by default the recipe's.",
        panel=METHOD,
        choices=CRITERIA,
        before=None,
    )
    seeds: Sequence[int] = setting(
        default=(),
        help="Search seeds, for example 1,2,3; by default the recipe's, or 1.\n\nRandom "
        "masks are drawn with at least three.",
        panel=METHOD,
        is_common=True,
        check=each(seed_number),
        typed=Typed(between_commas=True),
    )
    recipe: str | Recipe | None = setting(
        default=None,
        help="Preset: {choices}, or a TOML file; by default fast for a --model, else nano.\n\nIt "
        "is the preset of the sweep's searches.",
        more="A file is read once: the whole sweep is of what it held then.",
        panel=METHOD,
        is_common=True,
        choices=RECIPES,
        is_open=True,
    )
    model: str | None = setting(
        default=None,
        help="Hub id, folder, or nano; by default the recipe's, or the tickets'.",
        panel=DATA,
        is_common=True,
    )
    corpus: Sequence[str] = setting(
        default=(),
        help="Text, named as in search; its held-out tenth is measured. By default the recipe's or "
        "the tickets'.\n\nMay be given several times. Tickets are measured on each text that one "
        "of them was trained on.",
        panel=DATA,
        is_common=True,
    )
    text_column: str | None = shared.text_column()
    rows: str | None = rows_setting(
        "as the recipe or each of the tickets says, else as in search", before=None
    )
    sequence_length: int | None = setting(
        default=None,
        help="Tokens per sequence, at most; by default the recipe's, or those of the first ticket.",
        panel=TRAINING,
        check=at_least(8),
    )
    prune_every: int | None = setting(
        default=None,
        help="Steps between two cuts of iterative magnitude pruning; mask training gets as many "
        "steps as that takes to the same sparsity. By default the recipe's.",
        panel=TRAINING,
        check=at_least(1),
    )
    budget: str = setting(
        default="steps",
        help="Give mask training as many steps, or as many seconds, as imp takes to the same "
        "sparsity.",
        panel=TRAINING,
        choices=BUDGETS,
    )
    at_steps: Sequence[int] = setting(
        default=(),
        help="Also evaluate mask training after these steps, such as 50,100,200.",
        panel=TRAINING,
        check=each(at_least(1)),
        typed=Typed(between_commas=True),
    )
    keep_scores: bool = setting(
        default=False,
        help="Keep the scores of every mask training, derive the tickets of the other sparsities "
        "from them, and report what that costs against a search for each.",
        panel=OUTPUT,
    )
    tasks: Sequence[str] = setting(
        default=(),
        help="Tasks to score on, of {choices}; with --train, also a name for your own.",
        more="What evaluate measures without training is measured so; for all others, every "
        "subnetwork is fine-tuned.",
        panel=DATA,
        is_common=True,
        choices=lambda: (*tasks_without_training(), *TASKS),
        is_open=True,
        typed=Typed(between_commas=True),
    )
    task_seeds: Sequence[int] = setting(
        default=(1,),
        help="Fine-tuning seeds.",
        panel=TRAINING,
        check=each(seed_number),
        typed=Typed(between_commas=True),
    )
    queries: str | None = setting(
        default=None,
        help="Queries for the task retrieval, as in evaluate.",
        panel=DATA,
        before=None,
    )
    passages: str | None = setting(
        default=None,
        help="Passages for the task retrieval, as in evaluate.",
        panel=DATA,
        before=None,
    )
    relevant: str | None = setting(
        default=None,
        help="Which passage answers which query, as in evaluate.",
        panel=DATA,
        before=None,
    )
    data_dir: str | None = shared.data_dir()
    train: str | None = setting(
        default=None,
        help="Labelled examples of your own task, as in finetune.",
        panel=DATA,
        check=given("not empty"),
        before=None,
    )
    dev: str | None = setting(
        default=None,
        help="Labelled examples of your own task to measure on; by default a held-out fifth of "
        "--train.",
        panel=DATA,
        check=given("not empty"),
        before=None,
    )
    task_text_columns: Sequence[str] = setting(
        default=("text",),
        help="Column of the text in --train; give it twice for pairs.",
        panel=DATA,
        check=_check_text_columns,
        typed=Typed(name="task-text-column"),
        before=("text",),
    )
    label_column: str = setting(
        default="label", help="Column of the label in --train.", panel=DATA, before="label"
    )
    limit: int | None = setting(
        default=None, help="Fine-tune on only this many examples.", panel=DATA, check=positive
    )
    task_learning_rate: float | None = setting(
        default=None,
        help="Peak rate of fine-tuning; by default as in finetune.",
        panel=TRAINING,
        check=positive,
    )
    find_task_learning_rate: bool = setting(
        default=False,
        help="Find the rate of fine-tuning for each mask, as finetune --find-learning-rate does.",
        panel=TRAINING,
        before=False,
    )
    task_epochs: int | None = setting(
        default=None,
        help="Passes of fine-tuning over its training set; by default as in finetune.",
        panel=TRAINING,
        check=positive,
    )
    evaluation_blocks: int | None = setting(
        default=None,
        help="Most held-out sequences to measure; by default the recipe's, or 512.",
        panel=DATA,
        check=at_least(1),
        typed=Typed(name="blocks"),
        none_is=512,
    )
    precision: str | None = shared.precision(
        default=None, by_default="by default the recipe's, or auto", none_is="auto"
    )
    device: str | None = shared.device(
        default=None, by_default="by default the recipe's, or auto", none_is="auto"
    )
    threads: int | None = shared.threads(by_default="the recipe's, or torch's choice")
