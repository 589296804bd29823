"""The settings of ``bench``, each declared once; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence

from tamtctl.foundations import shared_settings as shared
from tamtctl.foundations.checks import at_least, different, each, given, seed_number
from tamtctl.foundations.config import (
    DATA,
    METHOD,
    RUN,
    Config,
    Typed,
    configuration,
    setting,
    settings_of,
)
from tamtctl.foundations.errors import UsageError
from tamtctl.tasks.benchmarks.table import all_without_training
from tamtctl.tasks.measures import check_files
from tamtctl.tasks.registry import TASKS

DENSE = "dense"  # value of --against: the base model that a recovered checkpoint names


@configuration
class BenchConfig(Config):
    """The models that are measured, the dense one beside them, and the sizes of input.

    Example:
        >>> speeds = tamtctl.BenchConfig(
        ...     folders="my-model", batch_sizes=[1], lengths=[16], threads=[1], rounds=3
        ... )
    """

    folders: Sequence[str] = setting(
        help="Folders of models: checkpoints, and exports with an ONNX graph, which is measured, "
        "too.",
        panel=METHOD,
        check=given("at least one folder"),
        typed=Typed(is_argument=True, metavar="FOLDER"),
    )
    against: str | None = setting(
        default=None,
        help="Dense model to compare with: a folder, Hub id or nano; or dense: the one that a "
        "recovered checkpoint names. Without it there are no ratios.",
        panel=METHOD,
        is_common=True,
    )
    batch_sizes: Sequence[int] = setting(
        default=(1, 32),
        help="Texts at once.",
        panel=RUN,
        check=each(at_least(1)),
        typed=Typed(between_commas=True),
    )
    lengths: Sequence[int] = setting(
        default=(32, 128),
        help="Tokens of each text.",
        panel=RUN,
        check=each(at_least(1)),
        typed=Typed(between_commas=True),
    )
    threads: Sequence[int] = setting(
        default=(),
        help="CPU threads; by default one, and as many as there are cores.",
        panel=RUN,
        is_common=True,
        check=each(at_least(1)),
        typed=Typed(between_commas=True),
    )
    rounds: int = setting(
        default=15,
        help="How often each model runs at each size, in turns.",
        panel=RUN,
        check=at_least(3),
    )
    tasks: Sequence[str] = setting(
        default=(),
        help="Also measure quality: a task or a loss that evaluate measures, one of {choices}. "
        "May be given several times.",
        panel=METHOD,
        is_common=True,
        choices=lambda: (*all_without_training(), *TASKS),
        is_open=True,
        typed=Typed(name="task"),
    )
    corpus: Sequence[str] = setting(default=(), help="Text for a loss, as in evaluate.", panel=DATA)
    queries: str | None = setting(
        default=None, help="Queries for --task retrieval, as in evaluate.", panel=DATA
    )
    passages: str | None = setting(
        default=None, help="Passages for --task retrieval, as in evaluate.", panel=DATA
    )
    relevant: str | None = setting(
        default=None, help="Which passage answers which query, as in evaluate.", panel=DATA
    )
    data_dir: str | None = shared.data_dir()
    blocks: int | None = setting(
        default=None,
        help="Sequences of text for a loss at most; by default as in evaluate.",
        panel=DATA,
        check=at_least(1),
    )
    seed: int = setting(
        default=1, help="Seed of tokens, turns and intervals.", panel=RUN, check=seed_number
    )

    def _check_together(self) -> None:
        if twice := [one for one in self.folders if self.folders.count(one) > 1]:
            raise UsageError(f"{twice[0]!r} is given twice; a bench measures each model once")
        for name in ("batch_sizes", "lengths", "threads", "tasks"):
            different(settings_of(BenchConfig)[name].option, getattr(self, name))
        check_files(self, self.tasks, "--task")
