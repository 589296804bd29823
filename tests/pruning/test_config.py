from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tamtctl.foundations.errors import UsageError
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.recipes import RECIPES


def test_recipes_give_valid_configurations() -> None:
    text: dict[str, Any] = {"model": "some-model", "corpus": "text.txt"}
    for recipe in RECIPES:
        for objective in ("mlm", "kd", "mlm+kd"):
            config = SearchConfig.from_recipe(recipe, sparsity=0.7, objective=objective, **text)
            assert config.objective == objective


def test_the_fast_recipe_is_for_any_model_and_text() -> None:
    with pytest.raises(UsageError, match="--recipe fast is for any model and text; give --model"):
        SearchConfig.from_recipe("fast", sparsity=0.7)
    with pytest.raises(UsageError, match="give --corpus"):
        SearchConfig.from_recipe("fast", sparsity=0.7, model="some-model")
    text: dict[str, Any] = {"model": "some-model", "corpus": "text.txt"}
    for objective in ("mlm", "kd"):  # what it starts from takes no head that the objective lacks
        config = SearchConfig.from_recipe("fast", sparsity=0.7, objective=objective, **text)
        assert config.needs_head == (objective == "mlm")


def test_the_rate_of_a_short_search_is_that_of_its_scores() -> None:
    nats = SearchConfig.from_recipe("nano", sparsity=0.8)
    assert (nats.init, nats.init_scores, nats.learning_rate) == ("obs*fisher", "nats", 0.03)
    two_valued = SearchConfig.from_recipe("nano", sparsity=0.8, init_scores="two-valued")
    assert two_valued.learning_rate == pytest.approx(6.4e-4)
    for method in ("imp", "magnitude"):  # which start from no scores
        config = SearchConfig.from_recipe("nano", sparsity=0.8, method=method)
        assert (config.init, config.init_scores) == ("magnitude", "two-valued")


def test_paper_recipe_has_the_papers_hyperparameters() -> None:
    mlm = SearchConfig.from_recipe("paper", sparsity=0.7)
    assert (mlm.steps, mlm.learning_rate, mlm.weight_decay) == (17_000, 5e-5, 0.0)
    assert (mlm.batch_size, mlm.sequence_length, mlm.schedule_epochs) == (16, 512, 2.0)
    kd = SearchConfig.from_recipe("paper", sparsity=0.7, objective="kd")
    assert (kd.learning_rate, kd.adam_epsilon, kd.weight_decay) == (2e-5, 1e-6, 0.01)
    assert (kd.bias_correction, kd.clip) == (False, "per-tensor")


@pytest.mark.parametrize(
    ("sparsity", "steps"), [(0.0, 3000), (0.2, 3000), (0.65, 15500), (0.9, 22000), (0.99, 22000)]
)
def test_paper_steps_follow_the_sparsity(sparsity: float, steps: int) -> None:
    assert SearchConfig.from_recipe("paper", sparsity=sparsity).steps == steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sparsity": 80}, "did you mean 0.8"),
        ({"sparsity": 1.0}, "below 1"),
        ({"sparsity": -0.1}, "at least 0"),
        ({"sparsity": float("nan")}, "got nan"),
        ({"method": "magnitud"}, "did you mean magnitude"),
        ({"objective": "clm"}, "one of mlm, kd, embedding, "),
        ({"steps": 0}, "--steps must be at least 1"),
        ({"learning_rate": float("inf")}, "--learning-rate"),
        ({"learning_rate": 0.0}, "--learning-rate"),
        ({"micro_batch_size": 0}, "--micro-batch-size"),
        ({"max_minutes": -1.0}, "--max-minutes"),
        ({"seed": -1}, "--seed"),
        ({"device": "tpu"}, "--device"),
    ],
)
def test_bad_values_are_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        SearchConfig.from_recipe("nano", **({"sparsity": 0.8} | changes))
    assert "\n" not in str(caught.value)


def test_the_hash_names_the_configuration() -> None:
    one = SearchConfig.from_recipe("nano", sparsity=0.8)
    assert one.hash == SearchConfig.from_recipe("nano", sparsity=0.8).hash
    assert one.hash != SearchConfig.from_recipe("nano", sparsity=0.8, seed=2).hash


def test_a_recipe_file_changes_its_base_and_the_command_line_changes_both(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'recipe = "paper"\nsteps = 7\nlearning-rate = 1\ncorpus = "a.txt"\nsparsity = 0.3\n'
        'eval-every = 5\npatience = 2\ncheckpoint-every = 9\nlog-to = "tensorboard"\n'
    )
    config = SearchConfig.from_recipe(str(file), steps=9)
    assert (config.steps, config.learning_rate, config.corpus) == (9, 1.0, ("a.txt",))
    assert (config.model, config.sparsity) == ("bert-base-uncased", 0.3)
    assert (config.eval_every, config.patience) == (5, 2)
    assert (config.checkpoint_every, config.log_to) == (9, "tensorboard")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = ", "not readable TOML"),
        ("stepps = 3", "did you mean steps"),
        ("[foo]\nsteps = 3", "method must be one of .*, got 'foo'"),
        ("['obs*nothing']\nsteps = 3", "no criterion 'nothing'"),
        ('steps = "many"', "steps must be a whole number"),
        ("corpus = [1]", "corpus must be"),
        ("dropout = 1", "dropout must be True or False"),
        ('recipe = "papers"', "did you mean paper"),
        ("prune_every = 3", "put it into a table \\[imp\\]"),
        ("[tamt]\nmethod = 'imp'", "\\[tamt\\] cannot be for another method"),
        ("batch-size = 3\nbatch_size = 4", "batch_size twice"),
        ("steps = 99999999999999999999", "at most 100,000,000"),
        ("method = 'imp'\nsteps = 3", "put steps into a table \\[tamt\\]"),
    ],
)
def test_bad_recipe_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text + "\n")
    with pytest.raises(UsageError, match=message):
        SearchConfig.from_recipe(str(file), sparsity=0.5)


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"nano, fast, paper, FILE.toml.*did you mean nano"):
        SearchConfig.from_recipe("nanoo", sparsity=0.5)


def test_a_recipe_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_bytes(b"\xef\xbb\xbfsteps = 7\n")
    assert SearchConfig.from_recipe(file, sparsity=0.5).steps == 7
