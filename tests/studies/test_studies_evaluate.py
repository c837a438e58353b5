"""What the evaluate study says in the terminal."""

from pathlib import Path

from fairloop.studies.evaluate import skipped_lines


def test_a_long_list_of_skipped_items_does_not_flood_the_terminal():
    items = [{"item": str(number), "reason": "the tokenizer splits a word"} for number in range(740)]
    lines = skipped_lines(items, Path("runs/outcome.json"))
    assert lines[0] == "skipped: 0: the tokenizer splits a word"
    assert lines[3:] == ["skipped: 737 more, in runs/outcome.json"]
    assert len(skipped_lines(items[:3], Path("x"))) == 3
    assert skipped_lines([], Path("x")) == []
