"""Whatever is done to a ticket folder, loading gives a valid ticket or a one-line TicketError."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_tickets import small_ticket

from tamtctl.foundations.errors import TicketError
from tamtctl.ticket.ticket import Ticket

FILES = ("ticket.json", "mask.safetensors", "mlm_head.safetensors")
fuzz = settings(
    max_examples=600,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

Folder = dict[str, bytes]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = tmp_path_factory.mktemp("good") / "ticket"
    small_ticket(mlm_head={"cls.bias": torch.ones(3)}).save_pretrained(folder)
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def attempt(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Folder], Ticket | None]:
    folder = tmp_path_factory.mktemp("fuzz")

    def load(content: Folder) -> Ticket | None:
        for name in FILES:
            path: Path = folder / name
            path.unlink(missing_ok=True)
            if name in content:
                path.write_bytes(content[name])
        failures = [check.detail for check in Ticket.verify(folder) if check.passed is False]
        try:
            ticket = Ticket.load(folder)
        except TicketError as error:
            check_failure(str(error), failures)
            return None
        assert not failures
        check_invariants(ticket)
        return ticket

    return load


def check_failure(message: str, failures: list[str]) -> None:
    assert message.isprintable()
    assert len(message) < 600
    assert len(failures) == 1  # the same failure, but safetensors words it at random


def check_invariants(ticket: Ticket) -> None:
    assert ticket.stored.keys() == ticket.parameters.keys()
    for name, entry in ticket.parameters.items():
        mask = ticket.mask(name)
        assert tuple(mask.shape) == entry.shape
        assert int(mask.sum()) == entry.kept
        assert len(ticket.stored[name]) == math.ceil(entry.numel / 8)
    assert 0 <= ticket.sparsity <= 1
    ticket.to_json({})


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Flip bits, cut out or repeat a part, insert bytes, or cut off the end."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        position = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "delete", "repeat", "insert", "truncate"])):
            case "flip" if data:
                data[position] ^= 1 << draw(st.integers(0, 7))
            case "delete":
                del data[position : position + draw(st.integers(1, 40))]
            case "repeat":
                data[position:position] = data[position : position + draw(st.integers(1, 40))]
            case "insert":
                data[position:position] = draw(st.binary(min_size=1, max_size=12))
            case "truncate":
                del data[position:]
    return bytes(data)


def with_files_listed(content: Folder) -> Folder:
    """Correct the listed sizes and checksums, so that the checks behind them are reached."""
    document = json.loads(content["ticket.json"])
    document["files"] = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in content.items()
        if name != "ticket.json"
    }
    return content | {"ticket.json": json.dumps(document).encode()}


@fuzz
@given(data=st.data())
def test_damaged_bytes(
    good: Folder, attempt: Callable[[Folder], Ticket | None], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(FILES))
    content = good | {name: data.draw(damaged(good[name]))}
    ticket = attempt(content)
    if name != "ticket.json" and content != good:
        assert ticket is None


@fuzz
@given(data=st.data())
def test_damaged_tensors_under_a_right_checksum(
    good: Folder, attempt: Callable[[Folder], Ticket | None], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(FILES[1:]))
    attempt(with_files_listed(good | {name: data.draw(damaged(good[name]))}))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([1, 2, "bits", "mask.safetensors", "layer.0.weight", "0" * 64, 1e999])
    | st.builds(lambda: [3, 4]),  # a new one each time: documents are changed in place
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=5,
)


def paths(value: Any, prefix: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the place of every value inside a document."""
    children = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [prefix, *(p for key, child in children for p in paths(child, (*prefix, key)))]


def mutate_document(data: st.DataObject, document: Any) -> None:
    place = data.draw(st.sampled_from(paths(document)[1:]))
    parent = document
    for key in place[:-1]:
        parent = parent[key]
    action = data.draw(st.sampled_from(["replace", "delete", "rename", "copy"]))
    if action == "delete":
        del parent[place[-1]]
    elif action == "rename" and isinstance(parent, dict):
        parent[data.draw(st.text(max_size=12))] = parent.pop(place[-1])
    elif action == "copy":
        source: Any = document
        for key in data.draw(st.sampled_from(paths(document)[1:])):
            source = source[key]
        parent[place[-1]] = json.loads(json.dumps(source))
    else:
        parent[place[-1]] = data.draw(json_values)


@fuzz
@given(data=st.data())
def test_changed_documents(
    good: Folder, attempt: Callable[[Folder], Ticket | None], data: st.DataObject
) -> None:
    document = json.loads(good["ticket.json"])
    for _ in range(data.draw(st.integers(1, 2))):
        mutate_document(data, document)
    text = json.dumps(document, ensure_ascii=data.draw(st.booleans()))
    attempt(good | {"ticket.json": text.encode("utf-8", "surrogatepass")})


@fuzz
@given(data=st.data())
def test_changed_headers_under_a_right_checksum(
    good: Folder, attempt: Callable[[Folder], Ticket | None], data: st.DataObject
) -> None:
    """Shapes, types and offsets inside a safetensors file, changed one value at a time."""
    name = data.draw(st.sampled_from(FILES[1:]))
    length = int.from_bytes(good[name][:8], "little")
    header = json.loads(good[name][8 : 8 + length])
    mutate_document(data, header)
    raw = json.dumps(header).encode("utf-8", "surrogatepass")
    raw += b" " * (-len(raw) % 8)
    content = len(raw).to_bytes(8, "little") + raw + good[name][8 + length :]
    attempt(with_files_listed(good | {name: content}))


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=200) | json_values.map(lambda v: json.dumps(v).encode()))
def test_any_document(
    good: Folder, attempt: Callable[[Folder], Ticket | None], content: bytes
) -> None:
    assert attempt(good | {"ticket.json": content}) is None


def test_a_value_of_many_levels_is_shown_in_a_line(
    good: Folder, attempt: Callable[[Folder], Ticket | None]
) -> None:
    document = json.loads(good["ticket.json"])
    within = document["parameters"]
    for _ in range(3):
        within = dict.fromkeys(within, within)
    attempt(good | {"ticket.json": json.dumps(document | {"allocation": within}).encode()})
