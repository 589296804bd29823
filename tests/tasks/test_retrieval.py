"""Retrieval on files of one's own: the metrics by hand, and every file that is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from command_line import Run
from samples import ticket_for
from sentence_models import dense_layer, sentence_model
from torch import Tensor
from transformers import AutoModel

from tamtctl.tasks.evaluation.api import evaluate
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.tasks.evaluation.ranking import metrics_of_queries, resampled_means

TOLD = ["--queries", "q.jsonl", "--passages", "p.jsonl", "--relevant", "r.tsv"]
HEADER = "query-id\tcorpus-id\tscore\n"
Records = list[dict[str, Any]]
QUERIES: Records = [
    {"_id": "q1", "text": "the list of file names", "group": "files"},
    {"_id": "q2", "text": "set a value"},
    {"_id": "q3", "text": "when is it", "group": "files"},
]
PASSAGES: Records = [
    {"_id": "p1", "title": "name", "text": "list the names of a file"},
    {"_id": "p2", "text": "set the value of data"},
    {"_id": "p3", "title": "", "text": "time and data and time"},
    {"_id": 4, "text": "its type is a list"},
]
RELEVANT = HEADER + "q1\tp1\t2\nq1\t4\t1\nq2\tp2\t1\nq2\tp3\t0\nq3\tp3\t1\nq3\tp1\t-1\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "st"
    found = sentence_model(folder, {"pooling_mode_mean_tokens": True}, modules=("Dense",))
    dense_layer(found / "2_Dense")
    return found


@pytest.fixture(autouse=True)
def files(working_folder: None) -> None:
    write("q.jsonl", QUERIES)
    write("p.jsonl", PASSAGES)
    Path("r.tsv").write_text(RELEVANT)


def write(name: str, records: Records) -> None:
    Path(name).write_text("".join(json.dumps(record) + "\n" for record in records))


def config(model: Path) -> EvaluateConfig:
    return EvaluateConfig(
        name=str(model), task="retrieval", queries="q.jsonl", passages="p.jsonl", relevant="r.tsv"
    )


def discounted(gains: list[float]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains[:10]))


def by_hand(similarities: list[float], answers: Mapping[int, int]) -> dict[str, float]:
    """The metrics of one query whose passages do not tie."""
    order = sorted(range(len(similarities)), key=lambda i: -similarities[i])
    gains = [float(answers.get(i, 0)) for i in order]
    return {
        **{f"recall@{k}": sum(g > 0 for g in gains[:k]) / len(answers) for k in (1, 10)},
        "ndcg@10": discounted(gains) / discounted(sorted(answers.values(), reverse=True)),
    }


def test_metrics_are_those_of_the_definitions() -> None:
    generator = np.random.default_rng(1)
    queries = torch.from_numpy(generator.normal(size=(20, 8)))  # half of all products are negative
    passages = torch.from_numpy(generator.normal(size=(40, 8)))
    relevant = [
        {int(p): int(generator.integers(1, 4)) for p in generator.choice(40, 1 + i % 12)}
        for i in range(20)
    ]
    found = metrics_of_queries(queries, passages, relevant, {})
    wanted = [
        by_hand(row, of) for row, of in zip((queries @ passages.T).tolist(), relevant, strict=True)
    ]
    assert found.keys() == wanted[0].keys()
    for name, values in found.items():
        assert np.allclose(values, [one[name] for one in wanted], atol=1e-6), name


@pytest.mark.parametrize("scale", [1e-4, 20.0])
def test_metrics_do_not_depend_on_the_length_of_embeddings(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, passages = torch.randn(20, 8, generator=generator), torch.randn(40, 8)
    relevant = [{i: 1, i + 20: 2} for i in range(20)]
    plain = metrics_of_queries(queries, passages, relevant, {})
    scaled = metrics_of_queries(queries * scale, passages * scale, relevant, {})
    for name, values in plain.items():
        assert np.allclose(values, scaled[name], atol=1e-6), name
    nothing = metrics_of_queries(0 * queries, passages, relevant, {})
    assert not nothing["recall@10"].any()


def test_no_metric_gains_by_passages_that_tie() -> None:
    query, same = torch.ones(1, 2), torch.ones(30, 2)
    tied = metrics_of_queries(query, same, [{0: 1}], {})
    assert (tied["recall@1"][0], tied["recall@10"][0]) == (0, 0)
    mean = discounted([1.0] * 10) / 30  # over all places that it may have
    assert tied["ndcg@10"][0] == pytest.approx(mean, abs=1e-6)
    two = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.5, 0.0]])
    tied = metrics_of_queries(query, two, [{1: 1}], {})
    assert (tied["recall@1"][0], tied["recall@10"][0]) == (0, 1)
    assert tied["ndcg@10"][0] == pytest.approx((1 + 1 / math.log2(3)) / 2, abs=1e-6)


def test_a_query_that_is_a_passage_is_not_among_its_own_answers(model: Path) -> None:
    """BEIR leaves such a passage out; it would stand before every answer."""
    texts = ["the list of names", "the list of name", "set the value", "set a value"]
    write("p.jsonl", [{"_id": str(i), "text": text} for i, text in enumerate(texts)])
    asked = [{"_id": "0", "text": texts[0]}, {"_id": "2", "text": texts[2]}]
    write("q.jsonl", asked)
    Path("r.tsv").write_text(HEADER + "0\t1\t1\n2\t3\t1\n")
    found = evaluate(config(model))
    assert "2 of 2 queries are passages, too, of the same id and text" in " ".join(found.notes)
    write("q.jsonl", [{**one, "_id": f"q{one['_id']}"} for one in asked])
    Path("r.tsv").write_text(HEADER + "q0\t1\t1\nq2\t3\t1\n")
    with_themselves = evaluate(config(model))
    assert with_themselves.metrics["recall@1"] == 0
    assert found.score > with_themselves.score
    write("q.jsonl", [{**one, "_id": "3"} for one in asked[:1]])  # an id by chance
    Path("r.tsv").write_text(HEADER + "3\t1\t1\n")
    note = "1 of 1 queries have the id of a passage of another text"
    assert note in " ".join(evaluate(config(model)).notes)


def test_whole_groups_are_drawn() -> None:
    values = {"m": np.repeat([0.0, 1.0], 200)}
    groups = [f"g{i // 10}" for i in range(400)]
    alone = resampled_means(values, [""] * 400)
    together = resampled_means(values, groups)
    assert alone is not None
    assert together is not None
    # The variance of a mean of n draws of 0 and 1, n being 400 queries or 40 groups.
    assert alone["m"].std() == pytest.approx(math.sqrt(0.25 / 400), rel=0.1)
    assert together["m"].std() == pytest.approx(math.sqrt(0.25 / 40), rel=0.1)
    assert resampled_means(values, ["a"] * 200 + ["b"] * 200) is None


def embedded(model: Path, texts: list[str]) -> Tensor:
    encoder = AutoModel.from_pretrained(model, dtype=torch.float32)
    layer = dense_layer(Path("layer"))  # the same one again
    found = []
    with torch.no_grad():
        for text in texts:
            inputs = tiny.tokenizer()(text, return_tensors="pt")
            state = encoder(**inputs).last_hidden_state[0].mean(0)
            found.append(torch.nn.functional.normalize(torch.tanh(layer(state)), dim=0))
    return torch.stack(found)


def test_a_model_is_measured_as_by_hand(model: Path, run: Run) -> None:
    titled = [f"{p.get('title', '')} {p['text']}".strip() for p in PASSAGES]
    both = embedded(model, [*(str(q["text"]) for q in QUERIES), *titled])
    similarities = (both[:3] @ both[3:].T).tolist()
    wanted = [
        by_hand(row, of)
        for row, of in zip(similarities, [{0: 2, 3: 1}, {1: 1}, {2: 1}], strict=True)
    ]
    done = run("evaluate", model, "--task", "retrieval", *TOLD, "--device", "cpu", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["task"], found["metric"], found["examples"]) == ("retrieval", "ndcg@10", 3)
    assert found["metrics"].keys() == {"recall@1", "recall@10", "ndcg@10"}
    for name, value in found["metrics"].items():
        assert value == pytest.approx(np.mean([one[name] for one in wanted]), abs=1e-6)
    assert found["score"] == found["metrics"]["ndcg@10"]
    assert found["standard_error"] is None
    assert "intervals" not in found
    assert "cosine similarity" in found["embeddings"]
    assert any("of 2 groups" in note for note in found["notes"])


def test_a_ticket_is_measured_with_its_zeros(model: Path) -> None:
    ticket = ticket_for(model, Path("ticket"), sparsity=0.9)
    dense, pruned = evaluate(config(model)), evaluate(config(ticket))
    assert pruned.sparsity == pytest.approx(0.9, abs=0.01)
    assert dense.sparsity is None
    assert dense.metrics.keys() == pruned.metrics.keys()


def test_intervals_of_many_queries(model: Path) -> None:
    words = tiny.WORDS
    write("q.jsonl", [{"_id": i, "text": f"{words[i % 50]} {words[i % 7]}"} for i in range(40)])
    Path("r.tsv").write_text(HEADER + "".join(f"{i}\tp{1 + i % 3}\t1\n" for i in range(40)))
    found = evaluate(config(model))
    assert found.intervals.keys() == found.metrics.keys()
    for name, (low, high) in found.intervals.items():
        assert low <= found.metrics[name] <= high
        error = found.standard_errors[name]
        assert error is not None
        assert high - low == pytest.approx(3.92 * error, rel=0.3, abs=1e-9)


def test_prompts_of_queries_and_documents_and_the_dot_product(tmp_path: Path) -> None:
    main = {
        "prompts": {"query": "the list: ", "document": "is it: ", "other": "a "},
        "default_prompt_name": "other",
        "similarity_fn_name": "dot",
    }
    model = sentence_model(
        tmp_path / "st", {"pooling_mode_mean_tokens": True}, config_sentence_transformers=main
    )
    told = evaluate(config(model)).embeddings or ""
    assert "prompt 'the list: ' for queries, prompt 'is it: ' for passages" in told
    assert "dot similarity" in told
    write("q.jsonl", [{**q, "text": f"the list: {q['text']}"} for q in QUERIES])
    write("p.jsonl", [{**p, "title": f"is it: {p.get('title', '')}".strip()} for p in PASSAGES])
    plain = sentence_model(
        tmp_path / "plain",
        {"pooling_mode_mean_tokens": True},
        config_sentence_transformers={"similarity_fn_name": "dot"},
    )
    written = evaluate(config(plain)).metrics
    write("q.jsonl", QUERIES)
    write("p.jsonl", PASSAGES)
    assert evaluate(config(model)).metrics == pytest.approx(written)
    unknown = sentence_model(
        tmp_path / "far",
        {"pooling_mode_mean_tokens": True},
        config_sentence_transformers={"similarity_fn_name": "euclidean"},
    )
    with pytest.raises(Exception, match="compares embeddings by 'euclidean'"):
        evaluate(config(unknown))


def test_queries_that_the_table_does_not_name_are_left_out(model: Path, run: Run) -> None:
    Path("r.tsv").write_text(HEADER + "q2\tp2\t1\n")
    found = evaluate(config(model))
    assert found.examples == 1
    assert "2 of 3 queries have no line in the table of relevance: they are left out" in found.notes


WRONG: dict[str, tuple[str, str, str]] = {
    "no JSON": ("q.jsonl", "{oops\n", "q.jsonl:1 is not JSON"),
    "no object": ("q.jsonl", "[1]\n", "q.jsonl:1 is not a JSON object"),
    "no id": ("q.jsonl", '{"text": "a"}\n', "q.jsonl:1 has no _id"),
    "an id that is none": (
        "p.jsonl",
        '{"_id": [], "text": "a"}\n',
        "p.jsonl:1 has [] for its _id",
    ),
    "no text": ("p.jsonl", '{"_id": "p1"}\n', "p.jsonl:1: text is missing"),
    "an empty text": ("p.jsonl", '{"_id": "p1", "text": " "}\n', "the passage 'p1' has no text"),
    "a group that is none": (
        "q.jsonl",
        '{"_id": "q1", "text": "a", "group": 3}\n',
        "q.jsonl:1: group is 3, and must be a text",
    ),
    "an id twice": (
        "p.jsonl",
        '{"_id": "p1", "text": "a"}\n{"_id": "p1", "text": "b"}\n',
        "p.jsonl:2 has the _id 'p1' that p.jsonl:1 has",
    ),
    "an empty file": ("p.jsonl", "", "p.jsonl holds no passage"),
    "no header": ("r.tsv", "q1\tp1\t1\n", "r.tsv:1 is not the header query-id, corpus-id, score"),
    "an empty table": ("r.tsv", "", "r.tsv is empty"),
    "a header alone": ("r.tsv", HEADER, "r.tsv names no query of q.jsonl"),
    "a column too few": ("r.tsv", HEADER + "q1\tp1\n", "r.tsv:2 has 2 columns, not 3"),
    "a query that is not there": ("r.tsv", HEADER + "q9\tp1\t1\n", "'q9', which is not in q"),
    "a passage that is not there": (
        "r.tsv",
        HEADER + "q1\tp9\t1\n",
        "'p9', which is not in p",
    ),
    "a pair twice": ("r.tsv", HEADER + "q1\tp1\t1\nq1\tp1\t0\n", "r.tsv:3 names query 'q1' and"),
    "a score that is none": ("r.tsv", HEADER + "q1\tp1\t0.5\n", "r.tsv:2 has the score '0.5'"),
    "no relevant passage": ("r.tsv", HEADER + "q1\tp1\t0\n", "query 'q1' has no relevant passage"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_is_not_what_it_should_be(case: str, tiny_model: Path, run: Run) -> None:
    file, content, line = WRONG[case]
    Path(file).write_text(content)
    done = run("evaluate", tiny_model, "--task", "retrieval", *TOLD)
    assert done.code == 1
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert line in done.err


def test_options_that_go_together(tiny_model: Path, run: Run) -> None:
    done = run("evaluate", tiny_model, "--task", "retrieval", *TOLD[:4])
    assert (done.code, done.err) == (2, "error: --task retrieval needs --relevant, too\n")
    done = run("evaluate", tiny_model, "--task", "kd", *TOLD[:2])
    assert done.code == 2
    assert "--queries does not go with kd: it is for retrieval" in done.err
    done = run("evaluate", tiny_model, "--task", "retrieval", *TOLD, "--corpus", "c.txt")
    assert done.code == 2
    done = run("evaluate", tiny_model, "--task", "retrieval", *TOLD[:4], "--relevant", "no.tsv")
    assert (done.code, done.err) == (1, "error: cannot read no.tsv: No such file or directory\n")
