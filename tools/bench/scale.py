"""What a large grid costs, by arithmetic: `python -m bench.scale` writes the table into docs/scale.md.

Every number that goes in has its source beside it; what nobody has measured is an assumption, and says so.
"""

import math
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
BEGIN, END = "<!-- computed by tools/bench/scale.py -->\n", "<!-- end -->\n"

GRID = "the grid of the question"
PAPER = "Gemma 2's report, arXiv 2408.00118, tables 1 and 2"
EQUILIBRIUM = "measured: experiments/equilibrium, one thread of a Xeon with AMX"
PROMPTS = "measured: SmolLM2's chat prompts, six examples as turns, groups of 8 (`bench.generation.bench_requests`)"
ASSUMED = "**assumption**"


@dataclass(frozen=True)
class Given:
    """A number that goes in.

    Attributes:
        name: what it is.
        value: the number.
        unit: its unit.
        source: where it is from.
    """

    name: str
    value: float
    unit: str
    source: str


CELLS = Given("cells", 45, "", GRID)
SENTENCES = Given("sentences of a generation", 10_000, "", GRID)
GENERATIONS = Given("generations", 10, "", GRID)
YIELD = Given(
    "usable share of what is written", 0.78, "", "measured: experiments/equilibrium_families, SmolLM2 unmitigated"
)
WORDS = Given("words of a sentence", 11.6, "", EQUILIBRIUM + ", mean of all generated corpora")
PIECES = Given("tokens of a word", 1.2, "", "measured: SmolLM2's tokenizer on 2,000 seed sentences (Gemma 3's: 1.15)")
PROMPT = Given("tokens of a prompt", 273, "", PROMPTS)
SHARED = Given("of them shared in a group", 257, "", PROMPTS)
GROUP = Given("prompts of a group", 16, "", "`study.prompt_group`")
BATCH = Given("texts side by side", 64, "", "`model.batch_size`")
WEIGHTS = Given("weights", 2.61e9, "", PAPER)
LAYERS = Given("layers", 26, "", PAPER)
HEADS = Given("heads of keys and values", 4, "", PAPER)
SIZE = Given("size of a head", 256, "", PAPER)
BANDWIDTH = Given("bandwidth of the GPU's memory", 3.35e12, "bytes/s", "H100 SXM, the maker's data sheet")
PEAK = Given("peak of the GPU in bfloat16", 989e12, "FLOP/s", "H100 SXM, the maker's data sheet, dense")
LOW = Given("share of the bandwidth limit, low", 0.08, "", ASSUMED + ": a step of 26 layers as single kernels, ~25 ms")
HIGH = Given("share of the bandwidth limit, high", 0.4, "", ASSUMED + ": larger batches, or a served model")
PREFILL = Given("share of the peak in reading prompts", 0.3, "", ASSUMED)
MEASURING = Given(
    "seconds to measure a sentence", 0.9 * 3600 / (45 * 4 * 500), "core s", EQUILIBRIUM + ": 0.9 h for 45 × 4 × 500"
)
THREADS = Given("processor threads of a cell", 8, "", ASSUMED + ", and that measuring uses half of them at a time")
BYTES = Given("bytes of a sentence in a corpus", 28.5, "", "measured: Parquet of 10,000 seed sentences, 285 kB")

GIVEN = [
    CELLS, SENTENCES, GENERATIONS, YIELD, WORDS, PIECES, PROMPT, SHARED, GROUP, BATCH, WEIGHTS, LAYERS, HEADS, SIZE,
    BANDWIDTH, PEAK, LOW, HIGH, PREFILL, MEASURING, THREADS, BYTES,
]  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What one cell takes.

    Attributes:
        written: tokens that are written.
        limit: tokens per second that the memory's bandwidth allows.
        writing: seconds of one GPU, for the low and the high share of that limit.
        reading: seconds of one GPU for the prompts.
        measuring: core seconds.
    """

    written: float
    limit: float
    writing: tuple[float, float]
    reading: float
    measuring: float

    def hours(self, share: int) -> float:
        """Return the hours of one cell on its GPU and threads; `share` is 0 for the low one and 1 for the high one."""
        return (self.writing[share] + self.reading + self.measuring / (THREADS.value / 2)) / 3600


def cost() -> Cost:
    """Return what a cell of the grid takes, without a mitigation."""
    asked = SENTENCES.value * GENERATIONS.value / YIELD.value
    written = asked * WORDS.value * PIECES.value
    # A step reads all weights once, and of each text the keys and values of its prompt and half of what it will have.
    row = 2 * LAYERS.value * HEADS.value * SIZE.value * 2
    step = 2 * WEIGHTS.value + BATCH.value * row * (PROMPT.value + WORDS.value * PIECES.value / 2)
    limit = BATCH.value * BANDWIDTH.value / step
    prompt = PROMPT.value - SHARED.value + SHARED.value / GROUP.value
    reading = asked * prompt * 2 * WEIGHTS.value / (PREFILL.value * PEAK.value)
    measuring = SENTENCES.value * (GENERATIONS.value + 1) * MEASURING.value
    writing = (written / (LOW.value * limit), written / (HIGH.value * limit))
    return Cost(written, limit, writing, reading, measuring)


def wall_hours(gpus: int, share: int) -> float:
    """Return the hours of the whole grid: a cell writes one generation after the other, on one GPU."""
    return math.ceil(CELLS.value / gpus) * cost().hours(share)


def block() -> str:
    """Return the tables of docs/scale.md."""
    one = cost()
    lines = ["| goes in | value | source |", "| --- | --- | --- |"]
    lines += [f"| {given.name} | {_number(given.value)} {given.unit} | {given.source} |" for given in GIVEN]
    lines += ["", "| one cell, no mitigation | |", "| --- | --- |"]
    lines += [
        f"| tokens written | {one.written / 1e6:.2f} million |",
        f"| limit by the memory's bandwidth | {one.limit:,.0f} tokens/s |",
        f"| writing | {one.writing[0] / 60:.0f} to {one.writing[1] / 60:.0f} GPU minutes |",
        f"| reading the prompts | {one.reading / 60:.1f} GPU minutes |",
        f"| measuring 11 corpora | {one.measuring / 3600:.1f} core hours |",
        f"| corpora | {SENTENCES.value * (GENERATIONS.value + 1) * BYTES.value / 1e6:.1f} MB |",
        f"| from beginning to end | {one.hours(0):.1f} to {one.hours(1):.1f} hours |",
        "",
        "| GPUs | the grid takes | GPU hours paid | GPUs without a cell at the end |",
        "| --- | --- | --- | --- |",
    ]
    for gpus in (1, 8, 64):
        hours = [wall_hours(gpus, share) for share in (0, 1)]
        idle = -int(CELLS.value) % gpus
        lines.append(
            f"| {gpus} | {hours[0]:.1f} to {hours[1]:.1f} h | {hours[0] * gpus:.0f} to {hours[1] * gpus:.0f} | {idle} |"
        )
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= value < 1e6 else f"{value:.3g}"


def page(text: str) -> str:
    """Return the page with its tables computed again."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{block()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
