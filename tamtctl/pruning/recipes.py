"""Recipes: the named presets of a search, and TOML files of its settings."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tamtctl.foundations.checks import did_you_mean, one_of, require
from tamtctl.foundations.config import Config, find_setting, settings_of
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.setting_types import SettingType
from tamtctl.models.usual_rows import embeds_sentences
from tamtctl.pruning.allocations import ALLOCATIONS, UNIFORM
from tamtctl.pruning.criteria import REFERENCE, is_criterion
from tamtctl.pruning.methods import IMP, TAMT, TRAINED, check_method, methods
from tamtctl.pruning.objectives import objectives, terms_of, usual_for_sentences
from tamtctl.pruning.patterns import UNSTRUCTURED, find_pattern
from tamtctl.pruning.settings import NATS, TWO_VALUED
from tamtctl.pruning.sparsities import ONE_TARGET, SPARSITY_NEEDED, check_sparsity, imp_steps
from tamtctl.pruning.word_floor import why_no_word_floor

_Values = dict[str, Any]


def _nano(told: _Values) -> _Values:
    """The embedded model on the embedded text: one to two minutes on two cores.

    OBS and Fisher together gave the lowest loss of the orders tried as a start, at 0.8 on a tenth
    of the *training* text that was held out for the choice: 3.49 nats after 120 steps, where OBS
    alone gave 3.63, RIA and Fisher 3.53. After 240 steps it is 3.34, and 3.40 at twice the rate.
    Iterative pruning with a cut every 30 steps had its best ticket at 0.7 with 8e-3 (5.49 nats on
    held-out text; 6.48 with the 5e-5 of the paper, whose intervals are a hundred times as long).
    For the KD loss, Fisher of the hidden states does as well (0.078 and 0.081), and needs no head.
    """
    values = _on_a_small_budget(told, order=f"obs*{fisher_for(told['objective'])}")
    return values | {"model": "nano", "corpus": ("python-docs",)}


def _fast(told: _Values) -> _Values:
    """Any encoder on any text, with the budget of `_nano`.

    OBS ranks the weights: it needs no masked-LM head, and it beat magnitude on each of two models,
    where Fisher lost to it on one. For a sentence encoder, Fisher of the hidden states is at hand
    from the allocation, and OBS and it together are a better start, as for `_nano`. With
    all-MiniLM-L6-v2, after 240 steps of 16: the loss on the held-out tenth of the training text,
    Pearson on 1,500 pairs of STS-B's *training* set, and nDCG@10 on 2,000 questions of SQuAD's.

        start              obs                      obs*fisher-kd            wanda*fisher-kd
        sparsity 0.5       0.054, 0.869, 0.801      0.053, 0.871, 0.804
        sparsity 0.7       0.193, 0.847, 0.763      0.183, 0.849, 0.768      0.183, 0.853, 0.762
    """
    zeros = _zeros_of_sentence_encoders(told)
    order = f"obs*{fisher_for(told['objective'])}" if zeros else "obs"
    return zeros | _on_a_small_budget(zeros | told, order=order)


def _zeros_of_sentence_encoders(told: _Values) -> _Values:
    """Return where a sentence encoder has its zeros: more in its embeddings than in its layers.

    Chosen with all-MiniLM-L6-v2: nDCG@10 on 2,000 questions of SQuAD's *training* set, where the
    dense model has 0.821, after mask training for 400, 500 and 600 steps of 32, one seed.

        sparsity                                            0.5     0.6     0.7
        by-type                                             0.802   0.792   0.767
        global, every matrix keeps 0.7 of the usual share   0.810   0.799   0.778
        global, every matrix keeps 0.4 of the usual share   0.803
    """
    sparsity = told["sparsity"]
    takes_budgets = find_pattern(told.get("pattern", UNSTRUCTURED)).takes_budgets
    starts_from_order = is_criterion(told.get("init", REFERENCE))
    if sparsity is None or "allocation" in told or not (takes_budgets and starts_from_order):
        return {}
    if "model" not in told or not embeds_sentences(told["model"]):
        return {}
    return {"allocation": "global", "floor": round(0.7 * (1 - sparsity), 4)}


def fisher_for(objective: str) -> str:
    """Return the Fisher criterion that needs no more of the model than an objective does."""
    return "fisher" if terms_of(objective).need_head else "fisher-kd"


def _on_a_small_budget(told: _Values, *, order: str) -> _Values:
    """Return the values that the recipes of short searches have in common.

    With two-valued scores, the learning rate falls with the sparsity, since in a denser mask fewer
    weights must change sides. At a rate that suits sparsity 0.8, a search at 0.5 flips needlessly
    many, which helps on its own text and hurts on any other.

    Args:
        told: The values that were asked for, as in `RECIPES`.
        order: The criterion that mask training starts from.
    """
    values: _Values = {"steps": 240, "batch_size": 16, "sequence_length": 128, "dropout": False}
    allocation = ALLOCATIONS.get(told.get("allocation", UNIFORM))
    if allocation and not allocation.is_uniform:  # an unknown one is refused later
        values["budget_criterion"] = fisher_for(told["objective"])
    if told["method"] == IMP:  # 320 steps to sparsity 0.9
        return values | {"prune_every": 40, "learning_rate": 8e-3}
    if told["method"] == TAMT:
        values |= {"init": order, "init_scores": NATS}
    values |= _word_floor(values | told)
    if (values | told).get("init_scores") == NATS:
        return values | {"learning_rate": 0.03}
    return values | _following("learning_rate", told, lambda share: 1e-3 * max(share, 0.1) ** 2)


def _word_floor(values: _Values) -> _Values:
    """Return the floor of every word, for searches that would forget words without one.

    Chosen with nano at 0.7, embeddings at 0.7 (`by-type`), one seed of the mask and two of the
    fine-tuning: accuracy on 2,500 of SST-2's *training* examples after training on 8,000 others
    (standard error 0.008), and the masked-LM loss on MNLI's and QQP's *training* sentences. In this
    trial, training could still prune what the floor had kept; now that it cannot, 0.75 gives 0.803
    and 5.687.

        floor       0       0.25    0.5     0.75    1
        accuracy    0.767   0.777   0.782   0.792   0.793
        loss        5.750   5.738   5.707   5.739   5.839
    """
    why = why_no_word_floor(
        values["method"],
        values.get("init", REFERENCE),
        values.get("init_scores", TWO_VALUED),
        values.get("pattern", UNSTRUCTURED),
    )
    return {} if why else {"word_floor": 0.75}


def _paper(told: _Values) -> _Values:
    """BERT-base on WikiText-103 with the hyperparameters of TAMT's code (appendix A)."""
    settings: _Values = {
        "model": "bert-base-uncased",
        "corpus": ("Salesforce/wikitext:wikitext-103-raw-v1",),
        "schedule_epochs": 2.0,
        "batch_size": 16,
        "sequence_length": 512,
        "learning_rate": 5e-5,
        **_following("steps", told, _paper_steps),
    }
    if told["method"] == IMP:
        settings |= {"prune_every": 2792, "schedule_epochs": None}
    if told["objective"] == "kd":
        settings |= {
            "learning_rate": 2e-5,
            "weight_decay": 0.01,
            "adam_epsilon": 1e-6,
            "bias_correction": False,
            "clip": "per-tensor",
        }
    return settings


def _paper_steps(sparsity: float) -> int:
    """The step of the checkpoint that the paper fine-tunes, interpolated between its sparsities."""
    listed = {0.2: 3, 0.3: 6, 0.4: 8, 0.5: 11, 0.6: 14, 0.7: 17, 0.8: 20, 0.9: 22}  # thousands
    points = sorted(listed.items())
    if sparsity <= points[0][0]:
        return points[0][1] * 1000
    for (low, steps_low), (high, steps_high) in itertools.pairwise(points):
        if sparsity <= high:
            share = (sparsity - low) / (high - low)
            return round(1000 * (steps_low + share * (steps_high - steps_low)))
    return points[-1][1] * 1000


def _following(name: str, told: _Values, rule: Callable[[float], float]) -> _Values:
    """Return a setting whose value follows from the sparsity; empty if the user gave a value.

    Raises:
        UsageError: A latency leaves the sparsity open, and the user gave no value for the setting.
    """
    sparsity = told["sparsity"]
    if sparsity is None and told["method"] not in TRAINED:
        sparsity = 0.0  # any will do: nothing is trained by the rule
    if sparsity is not None:
        return {name: rule(sparsity)}
    if name not in told:
        option = name.replace("_", "-")
        raise UsageError(
            f"--{option} follows from the sparsity, which --latency leaves open; give --{option}"
        )
    return {}


# Each takes the values that were asked for, at least method, objective and sparsity, and returns
# values for other settings. The sparsity is None if it follows from a latency.
RECIPES: dict[str, Callable[[_Values], _Values]] = {
    "nano": _nano,
    "fast": _fast,
    "paper": _paper,
}


def recipe_settings() -> frozenset[str]:
    """Return the names of the settings that some recipe gives a value."""
    asked = itertools.product(RECIPES.values(), methods(), objectives())
    return frozenset(
        name
        for recipe, method, objective in asked
        for name in recipe({"method": method, "objective": objective, "sparsity": 0.5})
    )


@dataclass(frozen=True)
class Recipe:
    """The values of a recipe file, a TOML file of `SearchConfig` settings.

    Attributes:
        name: The file's name, as the user typed it.
        base: The recipe in `RECIPES` that it builds on: its key ``recipe``, or ``nano``.
        values: Its values for all methods.
        by_method: Method → the values in its table, such as ``[imp]``.
    """

    name: str
    base: str
    values: _Values
    by_method: dict[str, _Values]

    @classmethod
    def read(cls, name: str, kind: type[Config]) -> Self:
        """Read a recipe file.

        Args:
            name: The file.
            kind: The configuration class whose settings it may hold.

        Raises:
            UsageError: The file does not exist, is not TOML, or has a value that is refused.
        """
        path = expanded(name)
        if not path.is_file():
            one_of("recipe", name, RECIPES | {"FILE.toml": None})
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
            raise UsageError(f"recipe file {name!r} is not readable TOML: {error}") from error
        base = values.pop("recipe", "nano")
        if base not in [*RECIPES]:  # it may be of any type
            raise UsageError(
                f"recipe file {name!r} builds on one of {', '.join(RECIPES)}, not on {base!r}"
                f"{did_you_mean(str(base), RECIPES)}"
            )
        tables = {key: values.pop(key) for key in [*values] if _is_table(name, key, values[key])}
        by_method = {method: _checked_values(name, table, kind) for method, table in tables.items()}
        for method, table in by_method.items():
            if table.get("method", method) != method:
                raise UsageError(f"recipe file {name!r}: [{method}] cannot be for another method")
        values = _checked_values(name, values, kind)
        for key in ("prune_every", "rewind"):
            if key in values and values.get("method") != IMP:
                raise UsageError(
                    f"recipe file {name!r}: {key} is for one method; put it into a table [imp]"
                )
        return cls(name, base, values, by_method)

    def of_method(self, method: str) -> _Values:
        """Return its values for a method; those in the method's table take precedence."""
        return self.values | self.by_method.get(method, {})

    def __str__(self) -> str:
        return self.name


def opened(recipe: str | Path | Recipe, kind: type[Config]) -> str | Recipe:
    """Return the name of a recipe in `RECIPES`, or a recipe file.

    Raises:
        UsageError: As for `Recipe.read`.
    """
    if isinstance(recipe, Recipe):
        return recipe
    name: str = SettingType.of("str").settled("recipe", recipe)
    return name if name in RECIPES else Recipe.read(name, kind)


@contextmanager
def blaming(recipe: str | Recipe, changes: Mapping[str, Any]) -> Iterator[None]:
    """Let a fault of a recipe file's value name the file, not an option that nobody typed.

    Args:
        recipe: A recipe; another one than a file is never to blame.
        changes: The values that the user typed; None stands for none.

    Raises:
        UsageError: As within the context, with the name of the file.
    """
    try:
        yield
    except UsageError as error:
        typed = {name for name, value in changes.items() if value is not None}
        options = {name.replace("-", "_") for name in re.findall(r"--([a-z-]+)", str(error))}
        tables = [recipe.values, *recipe.by_method.values()] if isinstance(recipe, Recipe) else []
        of_file = options & {name for table in tables for name in table}
        if options & typed or not of_file or str(recipe) in str(error):
            raise
        raise UsageError(f"recipe file {str(recipe)!r}: {error}") from error


def _is_table(file: str, key: str, value: Any) -> bool:
    """Return whether a key is the table of a method; refuse tables that are for none."""
    try:
        if isinstance(value, dict):
            check_method("method", key)
    except UsageError as error:
        raise UsageError(f"recipe file {file!r}: [{key}] is for no method: {error}") from error
    return isinstance(value, dict) or key in methods()


def recipe_values(recipe: str | Recipe, kind: type[Config], changes: Mapping[str, Any]) -> _Values:
    """Return the values of a search: the caller's, else the recipe file's, else the recipe's.

    Args:
        recipe: A name in `RECIPES`, or a recipe file.
        kind: The configuration class of the search.
        changes: The caller's values; None leaves the recipe's.

    Raises:
        UsageError: A value is refused.
    """
    changes = kind.settled({key: value for key, value in changes.items() if value is not None})
    usual = {name: one.default for name, one in settings_of(kind).items()}
    file: Recipe | None = None
    if isinstance(recipe, Recipe):
        file, recipe = recipe, recipe.base
        changes = file.of_method((file.values | changes).get("method", usual["method"])) | changes
    if not {"sparsity", "latency"} & changes.keys() and "pattern" in changes:
        only = find_pattern(changes["pattern"]).sparsity
        changes |= {} if only is None else {"sparsity": only}
    if "latency" in changes:
        if "sparsity" in changes:
            raise UsageError(ONE_TARGET)
        changes["sparsity"] = None
    elif "sparsity" in changes:
        check_sparsity(changes["sparsity"])
    else:
        raise UsageError(SPARSITY_NEEDED)
    told = {name: usual[name] for name in ("method", "objective")} | changes
    is_open = "objective" not in changes and told["method"] != IMP
    if is_open and "model" in changes and embeds_sentences(changes["model"]):
        changes["objective"] = told["objective"] = usual_for_sentences()
    one_of("objective", told["objective"], objectives())
    values = RECIPES[recipe](told) | changes
    for option in ("model", "corpus"):
        if option not in values:
            raise UsageError(f"--recipe {recipe} is for any model and text; give --{option}")
    if told["method"] == IMP and values["sparsity"] is not None:
        if "steps" in changes:
            where = (
                ""
                if file is None or "steps" not in file.values
                else (f"; in recipe file {file.name!r}, put steps into a table [tamt]")
            )
            raise UsageError(f"--steps is not for --method imp; give its --prune-every{where}")
        every = values["prune_every"]
        require("prune-every", every >= 1, "at least 1", every)
        values["steps"] = imp_steps(values["sparsity"], every)
    if values.get("stream") and "schedule_epochs" not in changes:
        values["schedule_epochs"] = None  # the length of an epoch is not known
    return values


def _checked_values(file: str, values: object, kind: type[Config]) -> _Values:
    if not isinstance(values, dict):
        raise UsageError(f"recipe file {file!r}: the name of a method is for a table, like [imp]")
    checked = {}
    for key, value in values.items():
        one = find_setting(kind, key.replace("-", "_"), f"recipe file {file!r} has an unknown key")
        if one.name in checked:
            raise UsageError(f"recipe file {file!r} has {one.name} twice; say it once")
        checked[one.name] = _checked(file, one.name, value, one.kind)
    return checked


def _checked(file: str, key: str, value: Any, kind: SettingType) -> Any:
    """Return a TOML value as the setting's type; raise UsageError if it has another type."""
    values = [value] if kind.is_several and type(value) is kind.type_of_one else value
    if kind.is_several:
        if isinstance(values, list) and all(type(one) is kind.type_of_one for one in values):
            return tuple(values)
    elif kind.one == "float" and type(value) in (int, float):
        return float(value)
    elif type(value) is kind.type_of_one:
        return value
    raise UsageError(f"recipe file {file!r}: {key} must be {kind.words}, got {value!r}")
