"""The race between generators: all are asked the same, and ratios are of neighbours."""

import sys
from collections import deque

import generation_models as stock
import pytest
from bench import generation as bench

from fairloop.generation.in_process import InProcessGenerator
from fairloop.generation.requests import Attempt
from fairloop.generation.settings import ModelSettings

#: A stand-in for the interpreter that has vLLM: it answers every prompt with its last token, as often as is allowed.
STAND_IN = """#!{python}
import json, sys
json.loads(sys.stdin.readline())
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked.get("forget"):
        print(json.dumps("forgotten"), flush=True)
        continue
    count = asked["sampling"]["max_tokens"]
    print(json.dumps([[ids[-1]] * count for ids in asked["prompts"]]), flush=True)
"""


@pytest.fixture
def generator(tokenizer):
    settings = ModelSettings(name="tiny", path="tiny", max_new_tokens=5, batch_size=3)
    return InProcessGenerator(stock.make_model("llama"), tokenizer, settings)


def test_every_generator_writes_the_tokens_that_are_asked_for(generator, tmp_path, monkeypatch):
    interpreter = tmp_path / "python"
    interpreter.write_text(STAND_IN.format(python=sys.executable))
    interpreter.chmod(0o755)
    monkeypatch.setattr(bench.tempfile, "gettempdir", lambda: str(tmp_path))
    endless = bench.Endless(generator.model, generator.tokenizer, generator.settings)
    attempts = [Attempt.of(request, 0, 0, "bench") for request in bench.bench_requests(7)]
    batches = bench.FixedBatches(endless)
    with bench.Vllm(str(interpreter), endless, eager=True) as vllm:
        for runner in (batches, vllm):
            runner.endless = True
        race = bench.race_tokens({"generate": batches, "vLLM": vllm, "fairloop": endless}, attempts, 2)
        assert {done.tokens for done in vllm.complete(deque(attempts))} == {5}
    assert [len(speeds) for speeds in race.speeds.values()] == [2, 2, 2]
    assert vllm.process.returncode == 0


def test_a_ratio_is_the_median_of_neighbours():
    race = bench.Race("tokens/s", {"generate": [1.0, 2.0, 4.0], "fairloop": [10.0, 10.0, 44.0]})
    assert race.ratio("generate") == 10.0


def test_without_an_interpreter_vllm_takes_no_part(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRLOOP_VLLM_PYTHON", str(tmp_path / "python"))
    assert bench.vllm_interpreter() is None
    monkeypatch.setenv("FAIRLOOP_VLLM_PYTHON", sys.executable)  # one that has no vLLM
    assert bench.vllm_interpreter() is None
