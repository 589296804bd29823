# ruff: noqa: E501
"""Ways to spoil a ticket folder so that a reader gets as deep into it as can be.

A *case* is a mutator's name and a seed, from which the folder follows: a failure is kept by these
two. Sizes, checksums, sparsity and fingerprint are made to match again, unless they are what is
spoilt.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import zstandard

from tamtctl.models.fingerprints import combined_fingerprint

Files = dict[str, bytes]
Document = dict[str, Any]
Mutator = Callable[[random.Random, Files], Files]

JSON, MASK, HEAD, CARD = "ticket.json", "mask.safetensors", "mlm_head.safetensors", "README.md"
MUTATORS: dict[str, Mutator] = {}

STRANGE = [
    "", " ", "\x1b[31mred\x1b[0m", "a\nb", "a\rb", "a\tb", "\u202egnp.exe", "\u2066x\u2069", "\x00", "\x7f",
    "\u0085", "\u2028", "[bold]x[/bold]", "[link=http://x]y[/link]", "<script>alert(1)</script>", "=1+1",
    "@SUM(A1)", "-1", "${jndi:x}", "$(touch pwned)", "`id`", "../../etc/passwd", "/etc/passwd", "~", "C:\\x",
    "\\input{x}", "%s%n", "{0}", "x" * 300, "é" * 100, "\U0001f600", "نص", "a|b", "a](http://x)", "---",
    "!!python/object/apply:os.system ['id']", "*alias", "&anchor", "? key", "ſ", "İ", "null", "NaN", "1e999",
    "\ufeffx", "a\u0301" * 50, "\ufdd0", "<!-- tamtctl -->",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 7, 8, 255, 2**31, 2**34, 2**53, 2**63, 2**64, -(2**63), 0.0, -0.0, 0.5,
    1.0, 1e-9, 1e308, 5e-324, [], {}, [[]], [3, 4], [0], [1], {"a": {}}, "0" * 64, "bits", "zstd", "delta",
    "nano", "org/model", "2026-01-01T00:00:00Z", MASK, "a.weight",
]  # fmt: skip


def mutator(function: Mutator) -> Mutator:
    MUTATORS[function.__name__] = function
    return function


def spoilt(name: str, seed: int, bases: list[Files]) -> Files:
    """Return the folder of a case."""
    rng = random.Random(f"{name} {seed}")
    return MUTATORS[name](rng, dict(rng.choice(bases)))


# --- taking a folder apart and putting it together ----------------------------------------------


def document_of(files: Files) -> Document:
    document: Document = json.loads(files[JSON])
    return document


def tensors_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def file_of(header: dict[str, Any], data: bytes) -> bytes:
    raw = json.dumps(header).encode("utf-8", "surrogatepass")
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw + data


def masks_of(files: Files) -> dict[str, bytes]:
    header, data = tensors_of(files[MASK])
    return {n: data[slice(*e["data_offsets"])] for n, e in header.items() if n != "__metadata__"}


def with_masks(files: Files, masks: dict[str, bytes]) -> Files:
    header, start = {}, 0
    for name, mask in masks.items():
        end = start + len(mask)
        header[name] = {"dtype": "U8", "shape": [len(mask)], "data_offsets": [start, end]}
        start = end
    return files | {MASK: file_of(header, b"".join(masks.values()))}


def matching(files: Files, document: Document, *, recount: bool = True) -> Files:
    """Let everything that follows from something else follow from it again, where that can be."""
    try:
        entries = document["parameters"]
        shapes = {n: e["shape"] for n, e in entries.items()}
        total = sum(math.prod(s) for s in shapes.values())
        if recount:
            document["sparsity"] = (total - sum(e["kept"] for e in entries.values())) / total
        hashes = {n: e["sha256"] for n, e in entries.items()}
        document["base_model"]["fingerprint"] = combined_fingerprint(shapes, hashes)
    except (KeyError, TypeError, AttributeError, ZeroDivisionError, ValueError):
        pass
    if isinstance(document.get("files"), dict):
        for name in (MASK, HEAD):
            if name in files:
                digest = hashlib.sha256(files[name]).hexdigest()
                document["files"][name] = {"bytes": len(files[name]), "sha256": digest}
    return files | {JSON: json.dumps(document).encode("utf-8", "surrogatepass")}


def places(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [prefix, *(p for key, child in inner for p in places(child, (*prefix, key)))]


def at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def any_value(rng: random.Random) -> Any:
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(VALUES)
    if kind < 0.6:
        return rng.choice(STRANGE)
    if kind < 0.8:
        return rng.uniform(-2, 2)
    if kind < 0.9:
        return [any_value(rng) for _ in range(rng.randrange(4))]
    return {rng.choice(STRANGE): any_value(rng) for _ in range(rng.randrange(4))}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def kept_in(document: Document, files: Files) -> None:
    """State the kept counts of masks that are stored as bits or zstd."""
    for name, mask in masks_of(files).items():
        if document["encoding"] != "bits":
            mask = zstandard.ZstdDecompressor().decompress(mask)
        count = int(np.bitwise_count(np.frombuffer(mask, np.uint8)).sum())
        document["parameters"][name]["kept"] = count


# --- bytes --------------------------------------------------------------------------------------


def damaged(rng: random.Random, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        where = rng.randrange(len(data) + 1)
        match rng.choice(["flip", "delete", "repeat", "insert", "cut"]):
            case "flip" if where < len(data):
                data[where] ^= 1 << rng.randrange(8)
            case "delete":
                del data[where : where + rng.randint(1, 40)]
            case "repeat":
                data[where:where] = data[where : where + rng.randint(1, 40)]
            case "insert":
                data[where:where] = rng.randbytes(rng.randint(1, 12))
            case "cut":
                del data[where:]
    return bytes(data)


@mutator
def bytes_of_any_file(rng: random.Random, files: Files) -> Files:
    """Accepted where the card is hit, or a number in the document that nothing follows from."""
    name = rng.choice(sorted(files))
    return files | {name: damaged(rng, files[name])}


@mutator
def bytes_under_a_right_checksum(rng: random.Random, files: Files) -> Files:
    """Accepted where it is only a number of the head that changes."""
    name = rng.choice([name for name in (MASK, HEAD) if name in files])
    content = damaged(rng, files[name])
    if rng.random() < 0.5:
        data = bytearray(files[name])
        data[rng.randrange(len(data) * 3 // 4, len(data))] ^= 1 << rng.randrange(8)
        content = bytes(data)
    return matching(files | {name: content}, document_of(files))


@mutator
def bits_of_a_mask(rng: random.Random, files: Files) -> Files:
    """Accepted where the kept counts are stated anew and no spare bit is hit."""
    document = document_of(files)
    masks = masks_of(files)
    name = rng.choice(sorted(masks))
    compressed = document["encoding"] != "bits"
    data = bytearray(
        zstandard.ZstdDecompressor().decompress(masks[name]) if compressed else masks[name]
    )
    for _ in range(rng.randint(1, 5)):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    masks[name] = zstandard.ZstdCompressor().compress(bytes(data)) if compressed else bytes(data)
    files = with_masks(files, masks)
    if document["encoding"] != "delta" and rng.random() < 0.8:
        kept_in(document, files)
    return matching(files, document)


# --- the document -------------------------------------------------------------------------------


@mutator
def a_value_of_the_document(rng: random.Random, files: Files) -> Files:
    document = document_of(files)
    place = rng.choice(places(document)[1:])
    at(document, place[:-1])[place[-1]] = any_value(rng)
    return matching(files, document, recount=rng.random() < 0.5)


@mutator
def a_key_of_the_document(rng: random.Random, files: Files) -> Files:
    document = document_of(files)
    place = rng.choice([p for p in places(document)[1:] if isinstance(at(document, p[:-1]), dict)])
    parent = at(document, place[:-1])
    match rng.choice(["delete", "rename", "add", "copy"]):
        case "delete":
            del parent[place[-1]]
        case "rename":
            parent[rng.choice(STRANGE)] = parent.pop(place[-1])
        case "add":
            parent[rng.choice(STRANGE)] = any_value(rng)
        case "copy":
            parent[place[-1]] = json.loads(
                json.dumps(at(document, rng.choice(places(document)[1:])))
            )
    return matching(files, document)


@mutator
def search_and_metrics(rng: random.Random, files: Files) -> Files:
    """Free JSON, under the names that commands look for."""
    document = document_of(files)
    names = {
        "search": [
            "sequence_length", "corpus", "seed", "steps", "held_out", "check_corpus", "recipe", "model",
            "learning_rate", "batch_size", "objective", "method", "sparsity", "init",
        ],
        "metrics": ["losses", "standard_errors", "check_losses", "scores", "steps", "flips", "seconds"],
    }  # fmt: skip
    for section, known in names.items():
        if rng.random() < 0.7:
            keys = rng.sample(known, rng.randint(1, 4)) + rng.sample(STRANGE, rng.randrange(2))
            document[section] |= {key: any_value(rng) for key in keys}
        if rng.random() < 0.2:
            key = rng.choice(["losses", "standard_errors", "scores", "check_losses", "corpus"])
            document[section][key] = {rng.choice([*STRANGE, "ticket", "dense"]): any_value(rng)}
        if rng.random() < 0.1:
            document[section]["deep"] = nested(rng.choice([5, 20, 29, 30, 31, 40, 500]))
    return matching(files, document)


@mutator
def text_of_the_document(rng: random.Random, files: Files) -> Files:
    document = document_of(files)
    for _ in range(rng.randint(1, 2)):
        place = rng.choice(
            [("method",), ("objective",), ("allocation",), ("created",), ("tamtctl_version",)]
            + [("base_model", name) for name in ("id", "revision", "model_type")]
        )
        at(document, place[:-1])[place[-1]] = rng.choice([*STRANGE, "plain", "a-b_c.d"])
    return matching(files, document)


@mutator
def shapes(rng: random.Random, files: Files) -> Files:
    """Accepted where the number of weights, or of the bytes that they take, stays the same."""
    document = document_of(files)
    entry = document["parameters"][rng.choice(sorted(document["parameters"]))]
    shape = entry["shape"]
    numel = math.prod(shape)
    entry["shape"] = rng.choice(
        [
            [numel], [1, numel], [numel, 1, 1], list(reversed(shape)), [*shape, 1], [numel + 1], [numel + 8],
            [max(1, numel - 1)], [2**34], [2**17, 2**17], [2**60, 2**60], [0], [-1, -numel], [1] * 9,
            [1.0, numel], [True, numel], [], str(shape), [numel // 2, 2],
        ]
    )  # fmt: skip
    return matching(files, document)


@mutator
def kept_counts(rng: random.Random, files: Files) -> Files:
    document = document_of(files)
    names = sorted(document["parameters"])
    one, other = (document["parameters"][rng.choice(names)] for _ in range(2))
    step = rng.choice([0, 0, 1, 2, -1, -2, 10**6])
    one["kept"], other["kept"] = one["kept"] + step, other["kept"] - step
    return matching(files, document)


@mutator
def matrices(rng: random.Random, files: Files) -> Files:
    """Left out, added or renamed, in all places at once or in one of them."""
    document, masks = document_of(files), masks_of(files)
    name = rng.choice(sorted(masks))
    names = [
        "b.weight",
        "a.0.b",
        "x" * 256,
        "x" * 257,
        "A.B",
        "a..b",
        ".a",
        "a.",
        "a b",
        "ä.weight",
        "..",
        "a/b",
    ]
    new = rng.choice([*names, *STRANGE, name + ".x"])
    match rng.choice(["leave out", "add", "rename", "in the masks", "in the document", "reorder"]):
        case "leave out":
            del masks[name], document["parameters"][name]
        case "add":
            masks[new], document["parameters"][new] = (
                masks[name],
                dict(document["parameters"][name]),
            )
        case "rename":
            masks[new], document["parameters"][new] = (
                masks.pop(name),
                document["parameters"].pop(name),
            )
        case "in the masks":
            masks[new] = masks.pop(name)
        case "in the document":
            document["parameters"][new] = document["parameters"].pop(name)
        case "reorder":
            masks = dict(rng.sample(list(masks.items()), len(masks)))
    return matching(with_masks(files, masks), document)


@mutator
def spelling_of_the_document(rng: random.Random, files: Files) -> Files:
    """The same values in another spelling, and spellings that readers understand differently."""
    text = files[JSON].decode()
    changes: list[Callable[[str], str]] = [
        lambda t: json.dumps(json.loads(t), ensure_ascii=False, separators=(",", ":")),
        lambda t: json.dumps(json.loads(t), indent=rng.randrange(9)),
        lambda t: "\n \t" + t + "\r\n ",
        lambda t: "\ufeff" + t,
        lambda t: t.replace('"method"', '"\\u006dethod"', 1),
        lambda t: t.replace("{", '{"method": "other", ', 1),
        lambda t: t.replace('"metrics": {', '"metrics": {"x": NaN, ', 1),
        lambda t: t.replace('"metrics": {', '"metrics": {"x": 1e400, ', 1),
        lambda t: t.replace('"metrics": {', '"metrics": {"x": -0.0, ', 1),
        lambda t: t.replace('"metrics": {', '"metrics": {"x": "\\ud800", ', 1),
        lambda t: t.replace('"metrics": {', '"metrics": {"x": ' + "9" * rng.choice([5, 30, 5000]) + ", ", 1),
        lambda t: t.replace('"metrics": {', '"metrics": {"x": ' + "[" * 2000 + "]" * 2000 + ", ", 1),
        lambda t: t.replace('"format_version": 1', f'"format_version": {rng.choice(["1.0", "2", "true", "1e0"])}'),
        lambda t: t + "{}",
        lambda t: t + " " * rng.choice([10, 2**21]),
        lambda t: t.replace(":", ": /* x */", 1),
    ]  # fmt: skip
    return files | {JSON: rng.choice(changes)(text).encode("utf-8", "surrogatepass")}


@mutator
def listed_files(rng: random.Random, files: Files) -> Files:
    document = document_of(files)
    listed = matching(files, document)
    document = document_of(listed)
    entry = {"bytes": rng.choice([0, 1, 2**40]), "sha256": "0" * 64}
    match rng.choice(["more", "path", "size", "hash", "no head", "as another"]):
        case "more":
            document["files"]["notes.txt"] = entry
        case "path":
            document["files"]["../../x"] = entry
        case "size":
            document["files"][MASK]["bytes"] += rng.choice([1, -1, 2**34, 0])
        case "hash":
            document["files"][MASK]["sha256"] = rng.choice(["0" * 64, "A" * 64, "", None])
        case "no head":
            document["files"].pop(HEAD, None)
            if rng.random() < 0.5:
                listed.pop(HEAD, None)
        case "as another":
            document["files"][CARD] = entry
    return listed | {JSON: json.dumps(document).encode()}


# --- masks --------------------------------------------------------------------------------------


@mutator
def frames(rng: random.Random, files: Files) -> Files:
    """The same mask in frames that another program might write, and in bad ones."""
    document, masks = document_of(files), masks_of(files)
    if document["encoding"] == "bits":
        document["encoding"] = "zstd"
        masks = {n: zstandard.ZstdCompressor(level=1).compress(m) for n, m in masks.items()}
    name = rng.choice(sorted(masks))
    plain = zstandard.ZstdDecompressor().decompress(masks[name])
    compress = zstandard.ZstdCompressor
    frames: list[Callable[[], bytes]] = [
        lambda: compress(level=19).compress(plain),
        lambda: compress(level=-5).compress(plain),
        lambda: compress(write_checksum=True).compress(plain),
        lambda: compress(write_content_size=False).compress(plain),
        lambda: compress().compress(plain) + rng.randbytes(8),
        lambda: compress().compress(plain[:1]) + compress().compress(plain[1:]),
        lambda: compress().compress(plain + b"\0"),
        lambda: compress().compress(plain[:-1]),
        lambda: compress().compress(bytes(2**26)),
        lambda: compress().compress(plain)[:-1],
        lambda: struct.pack("<II", 0x184D2A50, 4) + b"skip" + compress().compress(plain),
        lambda: b"",
        lambda: plain,
        lambda: compress(
            compression_params=zstandard.ZstdCompressionParameters(
                window_log=27, compression_level=3
            )
        ).compress(plain),
    ]
    masks[name] = rng.choice(frames)()
    return matching(with_masks(files, masks), document)


@mutator
def gaps(rng: random.Random, files: Files) -> Files:
    """Accepted as ``delta`` where an even number of positions lies inside the matrix."""
    document, masks = document_of(files), masks_of(files)
    document["encoding"] = "delta"
    for name, entry in document["parameters"].items():
        numel = math.prod(entry["shape"])
        most = min(entry["kept"], numel - entry["kept"])
        count = 2 * rng.randint(0, most) if rng.random() < 0.97 else rng.randint(0, numel)
        where = sorted(rng.sample(range(numel + (rng.random() < 0.02)), count))
        coded = bytearray()
        for before, position in zip([-1, *where], where, strict=False):
            coded += b"\xff" * ((position - before - 1) // 255) + bytes(
                [(position - before - 1) % 255]
            )
        if rng.random() < 0.03:
            coded += b"\xff"
        masks[name] = zstandard.ZstdCompressor(level=rng.choice([1, 3, 19])).compress(bytes(coded))
    return matching(with_masks(files, masks), document)


@mutator
def label_of_the_encoding(rng: random.Random, files: Files) -> Files:
    document = document_of(files)
    document["encoding"] = rng.choice(["bits", "zstd", "delta", "BITS", "", "rle"])
    return matching(files, document)


@mutator
def header_of_the_masks(rng: random.Random, files: Files) -> Files:
    return matching(files | {MASK: other_header(rng, files[MASK])}, document_of(files))


@mutator
def header_of_the_head(rng: random.Random, files: Files) -> Files:
    if HEAD not in files:
        return header_of_the_masks(rng, files)
    return matching(files | {HEAD: other_header(rng, files[HEAD])}, document_of(files))


def other_header(rng: random.Random, content: bytes) -> bytes:
    header, data = tensors_of(content)
    name = rng.choice([n for n in header if n != "__metadata__"])
    match rng.choice(
        ["metadata", "dtype", "shape", "offsets", "value", "space", "length", "order", "hole"]
    ):
        case "metadata":
            header["__metadata__"] = rng.choice(
                [{"format": "pt"}, {"a": "b" * 500}, {}, {"a": 1}, []]
            )
        case "dtype":
            header[name]["dtype"] = rng.choice(
                ["U8", "I8", "BOOL", "F32", "F64", "BF16", "X", "F8_E4M3", None]
            )
        case "shape":
            header[name]["shape"] = rng.choice(
                [[0], [1], [2**62], [-1], [], [1, *header[name]["shape"]], None]
            )
        case "offsets":
            header[name]["data_offsets"] = rng.choice(
                [[0, 0], [0, 2**40], [5, 1], [0], None, [-1, 1]]
            )
        case "value":
            place = rng.choice(places(header)[1:])
            at(header, place[:-1])[place[-1]] = any_value(rng)
        case "space":
            raw = json.dumps(header, indent=rng.choice([None, 1, 4])).encode()
            raw += b" " * (-len(raw) % 8 + rng.choice([0, 8, 800]))
            return struct.pack("<Q", len(raw)) + raw + data
        case "length":
            return (
                struct.pack("<Q", rng.choice([0, 1, 2**40, 2**64 - 1, len(content)])) + content[8:]
            )
        case "order":
            header = dict(reversed(list(header.items())))
        case "hole":
            data += bytes(rng.choice([0, 0, 1, 8]))
    return file_of(header, data)


# --- the head, the card, and what else lies there -----------------------------------------------


@mutator
def head(rng: random.Random, files: Files) -> Files:
    document = document_of(files)
    tensors: dict[str, tuple[str, list[int], bytes]] = {}
    if HEAD in files:
        header, data = tensors_of(files[HEAD])
        for name, entry in header.items():
            if name != "__metadata__":
                tensors[name] = entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])]
    match rng.choice(["drop", "add", "rename", "values", "half", "shape", "none"]):
        case "drop" if tensors:
            del tensors[rng.choice(sorted(tensors))]
        case "add":
            names = [
                "cls.more.weight",
                "bert.embeddings.LayerNorm.weight",
                "x",
                "encoder.layer.0.x",
                "decoder.weight",
            ]
            tensors[rng.choice([*names, *STRANGE])] = "F32", [2], struct.pack("<ff", 1, 2)
        case "rename" if tensors:
            name = rng.choice(sorted(tensors))
            tensors[rng.choice(["cls.other.bias", *STRANGE])] = tensors.pop(name)
        case "values" if tensors:
            name = rng.choice(sorted(tensors))
            dtype, shape, raw = tensors[name]
            value = struct.pack("<f", rng.choice([0.5, -0.0, math.inf, math.nan, 3e38]))
            tensors[name] = dtype, shape, (value * len(raw))[: len(raw)]
        case "half" if tensors:
            name = rng.choice(sorted(tensors))
            _, shape, raw = tensors[name]
            tensors[name] = rng.choice(["F16", "BF16"]), shape, raw[: len(raw) // 2]
        case "shape" if tensors:
            name = rng.choice(sorted(tensors))
            dtype, shape, raw = tensors[name]
            tensors[name] = dtype, [math.prod(shape)], raw
        case _:
            pass
    new, start = {}, 0
    for name, (dtype, shape, raw) in tensors.items():
        new[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + len(raw)]}
        start += len(raw)
    files = files | {HEAD: file_of(new, b"".join(raw for *_, raw in tensors.values()))}
    return matching(files, document)


@mutator
def card(rng: random.Random, files: Files) -> Files:
    """The card is not part of what is verified; publishing has to cope with it."""
    text = files[CARD].decode()
    parts = [
        "---\n: [\n---\n", "---\na: !!python/object/apply:os.system ['touch pwned']\n---\n", "---\n" + "a: [" * 500,
        "---\ntags: {a: 1}\n---\n", "---\nlicense: [x]\nbase_model: 7\n---\n", "---\n---\n", "--- \n\n", "\x00\x1b[2J",
        "---\na: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n---\n", "# mine\n", "---\ndate: 2026-01-01\n---\n", "\ufeff",
    ]  # fmt: skip
    content = rng.choice([text, "", rng.choice(parts) + rng.choice(["", text])]).encode()
    if rng.random() < 0.3:
        content = damaged(rng, content)
    return files | {CARD: content}


@mutator
def other_files(rng: random.Random, files: Files) -> Files:
    names = [
        "notes.txt",
        "pytorch_model.bin",
        "config.json",
        "code.py",
        ".hidden",
        "local.json",
        "x" * 200,
        "ticket.json~",
    ]
    return files | {rng.choice(names): rng.randbytes(rng.choice([0, 10, 1000]))}
