"""The settings of a search, each declared once; `config` checks which of them go together.

Imports nothing heavy, so that the command line can make options of them before it loads torch.
"""

from __future__ import annotations

from collections.abc import Sequence

from tamtctl.data.units import BLOCKS, SENTENCES, rows_setting
from tamtctl.foundations import shared_settings as shared
from tamtctl.foundations.checks import at_least, each, given, positive, require, seed_number
from tamtctl.foundations.config import (
    DATA,
    FROM_RECIPE,
    METHOD,
    OUTPUT,
    RUN,
    TRAINING,
    Config,
    configuration,
    setting,
)
from tamtctl.pruning.allocations import ALLOCATIONS, UNIFORM
from tamtctl.pruning.criteria import CRITERIA, REFERENCE
from tamtctl.pruning.latency.settings import backend_of_latency, latency, size_of_latency
from tamtctl.pruning.methods import TAMT, check_init, check_method, methods
from tamtctl.pruning.objectives import objectives, usual_for_sentences
from tamtctl.pruning.patterns import UNSTRUCTURED, check_pattern, pattern_names, usual_patterns
from tamtctl.pruning.sparsities import check_sparsity
from tamtctl.ticket.local_names import ticket_names
from tamtctl.training.loggers.setting import log_to

TWO_VALUED, NATS = "two-valued", "nats"
INIT_SCORES = (TWO_VALUED, NATS)
MOST_STEPS = 10**8  # more would take years, and is a typing error
STEPS_RANGE = f"at least 1 and at most {MOST_STEPS:,}"


@configuration
class SearchSettings(Config):
    """Everything that determines a search."""

    sparsity: float | None = setting(
        default=FROM_RECIPE,
        help="Share of zeros, in [0, 1).\n\nIn every matrix, or in all together (--allocation). "
        "--latency may be given instead.",
        panel=METHOD,
        is_common=True,
        check=lambda _, value: check_sparsity(value),
    )
    model: str = setting(
        default=FROM_RECIPE,
        help="Model: Hub id, folder, or nano.",
        panel=DATA,
        proposed=("nano",),
        is_common=True,
    )
    corpus: Sequence[str] = setting(
        default=FROM_RECIPE,
        help="Text to train on: python-docs, a file (txt, gz, xz, jsonl, csv, parquet), a folder, "
        "or a Hub dataset id[:config].\n\nMay be given several times.",
        panel=DATA,
        is_common=True,
        check=given("at least one source"),
    )
    stream: bool = setting(
        default=False,
        help="Read the corpus, a Hub dataset, while training on it: for one too large for the "
        "disk. The learning rate falls over --steps.",
        more="The order depends on the number of processes; only the first held-out documents are "
        "kept on the disk.",
        panel=DATA,
    )
    held_out: Sequence[str] = setting(
        default=(),
        help="Text to evaluate on; by default a stable tenth of the corpus.",
        panel=DATA,
    )
    check_corpus: Sequence[str] = setting(
        default=(),
        help="Text of a second domain; the ticket is evaluated on its held-out tenth, too.",
        panel=DATA,
    )
    text_column: str | None = shared.text_column()
    rows: str | None = rows_setting(
        f"{SENTENCES} for a model of sentence-transformers, else {BLOCKS}",
        before="blocks",
        none_is="blocks",
    )
    method: str = setting(
        default=TAMT,
        help="How the mask is found, one of {choices}.",
        more="`tamt` trains the mask, `imp` is iterative magnitude pruning; others take no "
        "training, and combine: `obs*fisher`.",
        panel=METHOD,
        is_common=True,
        choices=methods,
        is_open=True,
        check=check_method,
    )
    objective: str = setting(
        default="mlm",
        help="Loss that the mask is trained to lower, one of {choices}, or a sum in this order, "
        f"such as mlm+kd.\n\nA recipe takes {usual_for_sentences()} for a model of "
        "sentence-transformers.",
        more="TAMT, §3.3.",
        panel=METHOD,
        is_common=True,
        choices=objectives,
    )
    init: str = setting(
        default=REFERENCE,
        help="Mask to start from: {choices}, or a ticket.",
        more="Criteria combine: `obs*fisher`.",
        panel=METHOD,
        proposed=ticket_names,
        choices=CRITERIA,
        is_open=True,
        check=check_init,
    )
    init_scores: str = setting(
        default=TWO_VALUED,
        help="Scores that the mask starts from: 0.02 and 0 for what it keeps and prunes "
        "(two-valued), or the logarithm of the criterion of --init (nats), which keeps its order.",
        more="In nats, the threshold of every matrix is 0, and so of a weight twice as important "
        "as one on the threshold the score is 0.69.",
        panel=METHOD,
        choices=INIT_SCORES,
        before=TWO_VALUED,
    )
    allocation: str = setting(
        default=UNIFORM,
        help="How the weights that are kept are shared out over the matrices, one of {choices}.\n\n"
        "With uniform, each matrix has the same sparsity; with global, all weights share one "
        "threshold; with by-type, all but the embeddings do.",
        more="`uniform`: all have --sparsity, as in the paper. `global`: one threshold on the "
        "importance of all weights; the whole model has --sparsity. `by-type`: the embeddings have "
        "--sparsity, and one threshold holds for all other matrices. For sentence encoders, recipe "
        "fast takes `global`, and 0.7 of the share that all weights keep as --floor.",
        panel=METHOD,
        choices=ALLOCATIONS,
        before="uniform",
    )
    budget_criterion: str | None = setting(
        default=None,
        help="Criterion that sets how many weights each matrix keeps, for an --allocation other "
        "than uniform, one of {choices}; by default fisher, or fisher-kd if the objective needs no "
        "masked-LM head; with recipe paper that of --init or --method.",
        more="Its importances must mean the same in every matrix: those of random, swaps and "
        "combined orders do not.",
        panel=METHOD,
        choices=CRITERIA,
        before=None,
    )
    floor: float | None = setting(
        default=None,
        help="Least share of its weights that a matrix keeps, for an --allocation other than "
        "uniform; by default 0.02.",
        panel=METHOD,
        check=lambda option, value: require(
            option, 0 <= value < 1, "at least 0 and below 1", value
        ),
        before=None,
    )
    word_floor: float = setting(
        default=0.0,
        help="Least number of weights that each word (token of the vocabulary) keeps in the word "
        "embeddings, as a share of the mean over words; 0: no floor.",
        more="Criteria that look at a text, and training that starts from them, would else prune "
        "the whole embedding of a word that the text lacks, and with it any task that has it.",
        panel=METHOD,
        check=lambda option, value: require(option, 0 <= value <= 1, "from 0 to 1", value),
        before=0.0,
    )
    pattern: str = setting(
        default=UNSTRUCTURED,
        help="Which weights a mask may keep together, one of {choices}.\n\nWith 2:4, 2 of every "
        "4 neighbours in a row; with block:4x4, whole blocks; with neurons, whole feed-forward "
        "neurons, the same number in each layer; with heads, whole attention heads. All but "
        "unstructured leave the embeddings dense.",
        more="The sparsity is the share of weights, blocks, neurons or heads that are pruned. "
        "`export` leaves pruned neurons out, and `export --format onnx` pruned heads.",
        panel=METHOD,
        is_common=True,
        choices=pattern_names,
        completed=usual_patterns,
        is_open=True,
        check=check_pattern,
        before="unstructured",
    )
    latency: float | None = latency()
    latency_batch: int | None = size_of_latency("latency_batch", "Texts at once")
    latency_length: int | None = size_of_latency("latency_length", "Tokens of each text")
    latency_threads: int | None = size_of_latency("latency_threads", "CPU threads")
    latency_backend: str | None = backend_of_latency()
    steps: int = setting(
        default=FROM_RECIPE,
        help="Optimiser steps; those of imp follow from --prune-every.",
        panel=TRAINING,
        is_common=True,
        check=lambda option, value: require(option, value >= 0, STEPS_RANGE, value),
    )
    prune_every: int | None = setting(
        default=None,
        help="imp: steps between two cuts of 10 % of the weights.",
        panel=METHOD,
        check=at_least(1),
    )
    rewind: str = setting(
        default="weights",
        help="imp: after a cut go back to the pre-trained weights (weights), or train on (none).",
        panel=METHOD,
        choices=("weights", "none"),
    )
    schedule_epochs: float | None = setting(
        default=None,
        help="Passes of the corpus over which the learning rate falls linearly to 0 (the run is "
        "cut at `steps`); by default it falls over `steps`, or over `prune_every` of imp.",
        panel=TRAINING,
        check=positive,
        typed=None,
    )
    batch_size: int = shared.batch_size(default=16)
    micro_batch_size: int | None = shared.micro_batch_size()
    sequence_length: int = setting(
        default=FROM_RECIPE,
        help="Tokens per sequence, special tokens included.",
        panel=TRAINING,
        check=at_least(8),
    )
    learning_rate: float = setting(
        default=FROM_RECIPE,
        help="Peak rate of the scores, or of the weights that imp trains.",
        more="Two-valued scores start 0.02 apart; in nats, about 0.03 a step is good.",
        panel=TRAINING,
        is_common=True,
        check=positive,
    )
    head_learning_rate: float | None = setting(
        default=None,
        help="The masked-LM head's own peak rate, while it trains along with a mask; 0 leaves it "
        "as it is. By default the rate of the scores, or 0 with --init-scores nats.",
        more="A rate in nats would ruin a head, whose values are weights.",
        panel=TRAINING,
        check=at_least(0),
        before=None,
    )
    weight_decay: float = setting(
        default=0.0,
        help="Decoupled weight decay of scores and head.",
        more="It draws all scores of a matrix to 0 by the same factor: in nats, towards the "
        "threshold. Their order and the mask stay, and later steps change it more easily.",
        panel=TRAINING,
        check=at_least(0),
        typed=None,
    )
    adam_epsilon: float = setting(
        default=1e-8,
        help="Adam's epsilon, added outside the bias correction, as in the paper's AdamW.",
        panel=TRAINING,
        check=positive,
        typed=None,
    )
    bias_correction: bool = setting(
        default=True,
        help="Correct the bias of Adam's moments.",
        panel=TRAINING,
        typed=None,
    )
    clip: str = setting(
        default="global",
        help="Which norm of the gradients is clipped: that of scores and head together (global), "
        "or that of each tensor (per-tensor).",
        panel=TRAINING,
        choices=("global", "per-tensor"),
        typed=None,
    )
    max_grad_norm: float = shared.max_grad_norm()
    dropout: bool = shared.dropout(default=True)
    evaluation_blocks: int = setting(
        default=512,
        help="Held-out sequences to evaluate on at most.",
        panel=DATA,
        check=at_least(1),
        typed=None,
    )
    calibration_tokens: int = setting(
        default=65_536,
        help="Tokens of the corpus from which criteria learn which weights matter.",
        more="The same ones each time. From 1,000 the criteria know little, from 10,000 most. "
        "Beside the model, obs and swaps take 4 bytes for each pair of a layer's inputs, "
        "38 MB for 3,072, and criteria of gradients 4 to 8 bytes for each weight.",
        panel=METHOD,
        check=at_least(1),
        before=65_536,
    )
    precision: str = shared.precision()
    compile: bool = setting(
        default=False,
        help="Compile the encoder: minutes at first, then faster steps on a GPU.",
        panel=RUN,
        before=False,
    )
    low_memory: bool = setting(
        default=False,
        help="On a CPU, keep the frozen weights in a file and Adam's first moments in bfloat16: "
        "14 bytes per weight instead of 20, where dense training takes 16.",
        panel=RUN,
        before=False,
    )
    device: str = shared.device()
    threads: int | None = shared.threads()
    seed: int = setting(
        default=1,
        help="Seed of all that is random.\n\nNoise, order, random masks and dropout.",
        panel=RUN,
        is_common=True,
        check=seed_number,
    )
    max_minutes: float | None = setting(
        default=None,
        help="Stop after this many minutes of training; evaluations do not count.",
        panel=TRAINING,
        check=positive,
    )
    checkpoint_every: int | None = shared.checkpoint_every(at_least(1))
    eval_every: int | None = setting(
        default=None,
        help="Steps between evaluations on held-out text; by default only at the end.",
        panel=TRAINING,
        check=at_least(1),
    )
    patience: int | None = setting(
        default=None,
        help="Stop after this many evaluations in a row without a lower loss; needs --eval-every.",
        more="The ticket is that of the last step, not of the best evaluation: choosing it by the "
        "very losses that are reported would flatter it.",
        panel=TRAINING,
        check=at_least(1),
        before=None,
    )
    log_to: str | None = log_to()
    keep_scores: bool | None = setting(
        default=None,
        help="Keep the trained scores in the run's folder.",
        panel=OUTPUT,
        names_run=False,
    )
    from_scores: str | None = setting(
        default=None,
        help="The folder of a search that kept its scores: derive the ticket of --sparsity from "
        "them, without training. All else is as it was there.",
        panel=METHOD,
        before=None,
    )
    base_model: str | None = setting(
        default=None,
        help="Hub id of the model in a local folder: org/name[@revision]. Its weights are compared "
        "with those in the Hub's cache, if they are there.",
        panel=DATA,
        before=None,
    )
    eval_steps: Sequence[int] = setting(
        default=(),
        help="Evaluate the mask on held-out text after just these steps, too.",
        panel=TRAINING,
        check=each(at_least(1)),
        typed=None,
        names_run=False,
    )
