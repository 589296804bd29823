"""What the texts of tickets are called in tables."""

from __future__ import annotations

from tamtctl.ticket.texts import TextSource, labels_of


def test_texts_of_one_name_are_numbered_and_a_longer_name_is_another() -> None:
    names = ("/a/wiki.txt.xz", "/a/wiki.txt", "/b/wiki.txt", "/c/wiki.txt")
    texts = [TextSource(corpus=(name,)) for name in names]
    labels = [*labels_of(texts).values()]
    assert labels == ["wiki.txt.xz", "wiki.txt", "wiki.txt no. 2", "wiki.txt no. 3"]
