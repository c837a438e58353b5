"""The sentence in an answer: what a chat model says around it is left out.

Small chat models answer "Write one sentence about a nurse." with "Sure! Here is a new sentence about a nurse:", a
numbered list, the sentence in quotation marks or in bold, or a label before it.
"""

import re

from fairloop.generation.screening import mentions, sentence_end

_BOLD = r"(?:\*{1,3}|_{2})?"
_LEAD_IN = re.compile(
    rf"""
    \s+
    | <\|?(?:im_start|start_of_turn|assistant|bos|s)\|?>\s*(?:assistant\b|model\b)?
    | (?:assistant|AI|model|bot)\s*:(?=\s)
    | (?:Sure(?:\ thing)?|Certainly|Of\ course|Absolutely|Okay|OK|Great|Alright|Yes|No\ problem)\s*[!.,:]\s*
      (?=[A-Z"“*\n]|$|here\b)
    | [^\n.!?:"“]{{0,20}}\b(?:here(?:'s|’s|\ is|\ are)|below\ is|this\ is|the\ following\ is)\b[^\n.!?:"“]{{0,140}}
      :{_BOLD}(?=\s|["“*]|$)
    | {_BOLD}[^\n.!?:"“]{{0,80}}\b(?:sentence|answer|example|response|output|rewrite|result)s?\b[^\n.!?:"“]{{0,100}}
      {_BOLD}:{_BOLD}(?=\s|["“*]|$)
    | [^\n.!?:"“]{{1,160}}:[ ]*(?=\n)
    | \#{{1,6}}\s+
    | (?:[-–—•*]|\d{{1,2}}[.)])(?=\s)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_TURN_END = re.compile(r"<\|?(?:im_end|end_of_turn|eot_id|endoftext|end|eos|/?s)\|?>.*", re.DOTALL)
_QUOTES = {'"': '"', "“": "”", "‘": "’", "'": "'", "*": "*", "**": "**", "***": "***", "__": "__", "`": "`"}


def answer_end(text: str) -> int | None:
    """Return the index just behind the first sentence of an answer, or None if it goes on."""
    start = _lead_in(text)
    end = sentence_end(text[start:])
    return None if end is None else start + end


def answer_of(text: str, occupation: str = "") -> str:
    """Return the sentence of an answer, without what is said around it.

    Args:
        text: the answer as written.
        occupation: what it is about; a label that names it ("Nurse: The nurse …") is left out, too.
    """
    text = _TURN_END.sub("", text)
    text = text[_lead_in(text) :]
    label = re.match(rf"{_BOLD}([^\n.!?:\"“]{{1,40}}){_BOLD}:{_BOLD}\s+(?=\S)", text)
    if label and occupation and mentions(label.group(1), occupation) and mentions(text[label.end() :], occupation):
        text = text[label.end() :]
    text = _unwrapped(text[: sentence_end(text)].strip())
    # Bold words within the sentence
    text = re.sub(r"(\*{1,3}|__)(?=\S)([^*_]+?)(?<=\S)\1", r"\2", text)
    text = _unwrapped(text)
    end = sentence_end(text)
    text = text if end is None else text[:end]
    if text.count('"') == 1 and text.endswith('"'):
        text = text[:-1]
    return text


def _lead_in(text: str) -> int:
    """Return how many characters stand before the sentence."""
    start = 0
    while (match := _LEAD_IN.match(text, start)) and match.end() > start:
        start = match.end()
    return start


def _unwrapped(text: str) -> str:
    """Return a text without the quotation marks, asterisks or the like that stand around the whole of it."""
    while True:
        mark = text[: len(text) - len(text.lstrip(text[0]))] if text else ""
        close = _QUOTES.get(mark, "")
        inner = re.fullmatch(rf"{re.escape(mark)}(.+?){re.escape(close)}([.!?]?)", text, re.DOTALL) if close else None
        if inner is None or mark in inner.group(1) or close in inner.group(1):
            return text
        body = inner.group(1).strip()
        text = body if body.endswith((".", "!", "?", "…")) else body.rstrip(",") + inner.group(2)
