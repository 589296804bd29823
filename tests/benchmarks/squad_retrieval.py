"""Makes the files of ``evaluate --task retrieval`` of SQuAD: questions, paragraphs, which answers.

Every dev question is asked, and found among all dev and train paragraphs; a paragraph that stands
there twice is one passage. A question's group is its article. ``--questions 1000`` takes so many,
spread evenly over all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from tamtctl.data.text.reading import read_lines

FILES = {"--queries": "queries.jsonl", "--passages": "passages.jsonl", "--relevant": "relevant.tsv"}


def add_inputs(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the inputs of a benchmark of sentence encoders."""
    parser.add_argument("model", type=Path, help="its folder")
    parser.add_argument("--wikipedia", type=Path, required=required, help="train and valid .txt.xz")
    parser.add_argument("--glue", type=Path, required=required)
    parser.add_argument("--retrieval", type=Path, required=required, help="from squad_retrieval")


def options_of(folder: Path) -> list[str]:
    """Return the options of ``--task retrieval`` for the files in a folder."""
    return [word for option, name in FILES.items() for word in (option, str(folder / name))]


def _paragraphs(file: Path) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Yield each paragraph: its article's title, its text on one line, and its questions."""
    for article in json.loads("\n".join(read_lines(file)))["data"]:
        for paragraph in article["paragraphs"]:
            yield article["title"], " ".join(paragraph["context"].split()), paragraph["qas"]


def main() -> bool:
    """Write the three files."""
    parser = argparse.ArgumentParser("squad_retrieval", description=__doc__)
    parser.add_argument("--dev", type=Path, required=True, help="dev-v1.1.json, packed or not")
    parser.add_argument("--train", type=Path, help="its paragraphs stand beside those of --dev")
    parser.add_argument("--questions", type=int, help="so many of the questions; by default all")
    parser.add_argument("--to", type=Path, default=Path("squad-retrieval"))
    told = parser.parse_args()
    dev = list(_paragraphs(told.dev))
    train = _paragraphs(told.train) if told.train else ()
    passages: dict[str, str] = {}  # text → id
    for _, context, _ in (*dev, *train):
        passages.setdefault(context, f"p{len(passages)}")
    asked = [
        (question["id"], question["question"], title, context)
        for title, context, questions in dev
        for question in questions
    ]
    chosen = np.linspace(0, len(asked) - 1, told.questions or len(asked)).round().astype(int)
    asked = [asked[i] for i in chosen]
    told.to.mkdir(parents=True, exist_ok=True)
    _write(
        told.to / FILES["--queries"],
        ({"_id": name, "text": text, "group": title} for name, text, title, _ in asked),
    )
    _write(told.to / FILES["--passages"], ({"_id": n, "text": t} for t, n in passages.items()))
    rows = [f"{name}\t{passages[context]}\t1" for name, _, _, context in asked]
    (told.to / FILES["--relevant"]).write_text("\n".join(["query-id\tcorpus-id\tscore", *rows, ""]))
    Console().print(f"{len(asked):,} questions, {len(passages):,} passages in {told.to}")
    return True


def _write(file: Path, records: Iterator[dict[str, str]]) -> None:
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    file.write_text("".join(lines), encoding="utf-8")
