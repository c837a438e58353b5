"""What every real server is put through: studies as a user runs them, seeds, mistakes, and a kill in the middle."""

import json
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest
from command import cells, fairloop, start
from datasets import Dataset
from real_servers import PATIENCE, free_port
from test_generation_server import attempts, settings

from fairloop.errors import Fault, UserError
from fairloop.generation.served_names import check_names
from fairloop.generation.server import JOURNAL_FILE, ServerGenerator

HERE = Path(__file__).parent
SMALL = (
    "study.sentences=12",
    "study.generations=1",
    "study.examples=3",
    "study.prompt_group=6",
    "study.resamples=100",
    "study.min_yield=0.02",
    "model.max_new_tokens=40",
    "trainer.threads=1",
    "tracking=none",
)


def chosen(server, engine, path, style, **options):
    """Return overrides of `model` as the command line takes them."""
    plain = {"name": f"{engine}_{style}", "engine": engine, "path": path, "style": style, "url": server.url, **options}
    return [
        "model=openai_server",
        *(f"model.{key}={str(value).lower() if value in (True, False) else value}" for key, value in plain.items()),
    ]


def recursion(model, encoder, folder):
    """Run one cell; its corpus is whole, and its tokens are counted."""
    done = fairloop(*model, *SMALL, f"study.encoder={encoder}", cwd=folder, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    (cell,) = cells(folder / "runs")
    (generation,) = cell.glob("stages/*-generation-1")
    rows = Dataset.from_parquet(str(generation / "corpus.parquet"), keep_in_memory=True).to_list()
    writing = json.loads((generation / "writing.json").read_text())
    assert len(rows) == 12
    assert writing["accepted"] == 12
    assert writing["prompt_tokens"] > 50 * writing["asked"] > 0
    assert writing["tokens"] >= writing["asked"]
    print(*(row["text"] for row in rows[:4]), json.dumps(writing), sep="\n")


def sweep(model, encoder, folder):
    """Run four cells, two at a time; all of them end well."""
    grid = ("-m", "seed=0,1", "initial_bias=low,high", "hydra/launcher=fairloop_joblib", "hydra.launcher.n_jobs=2")
    done = fairloop(*model, *SMALL, f"study.encoder={encoder}", *grid, cwd=folder, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    found = cells(folder / "runs")
    assert len(found) == 4
    assert {json.loads((cell / "status.json").read_text())["status"] for cell in found} == {"complete"}


def killed_in_the_middle(server, model, encoder, folder):
    """Kill the server with SIGKILL while a cell asks it, and start it again: the cell goes on by itself."""
    process = start(
        *model,
        *SMALL,
        "study.sentences=24",
        "model.concurrency=1",
        "model.tries=100",
        "model.backoff=2",
        f"study.encoder={encoder}",
        cwd=folder,
    )
    until = time.monotonic() + PATIENCE
    answered = []
    while len(answered) < 2 and time.monotonic() < until and process.poll() is None:
        answered = [line for path in folder.rglob(JOURNAL_FILE) for line in path.read_bytes().splitlines()]
        time.sleep(0.05)
    server.kill()
    assert process.poll() is None, process.communicate()[1]
    time.sleep(1.0)
    server.start()
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "asking again" in out + err
    (cell,) = cells(folder / "runs")
    (generation,) = cell.glob("stages/*-generation-1")
    assert json.loads((generation / "writing.json").read_text())["accepted"] == 24


def served(server, engine, path, style, **options):
    plain = {"url": server.url, "engine": engine, "path": path, "style": style, "tries": 2, "max_new_tokens": 24}
    return settings(**{**plain, **options})


def texts_of(generator, count, **options):
    return [done.text for done in generator.complete(attempts(count, **options))]


def seeds(server, engine, path, style, **options):
    """Ask one by one: the same seeds give the same texts, others give others."""
    generator = ServerGenerator(served(server, engine, path, style, concurrency=1, **options))
    first = texts_of(generator, 3)
    assert texts_of(generator, 3) == first
    assert len(set(first)) > 1
    changed = deque(replace(one, seed=one.seed + 1) for one in attempts(3))
    assert [done.text for done in generator.complete(changed)] != first


def mistakes(server, engine, path, style, **options):
    """A model that is not served, before work and in it, and nobody listening, are one line each."""
    check_names([served(server, engine, path, style, **options)])
    with pytest.raises(UserError, match=r"^model\.(path|url)=.*; it lists ") as caught:
        check_names([served(server, engine, "org/other", style, **options)])
    print(caught.value)
    with pytest.raises(UserError, match=r"^model\.(path|url)=") as caught:
        texts_of(ServerGenerator(served(server, engine, "org/other", style, **options)), 1)
    print(caught.value)
    nobody(server, engine, path, style, **options)


def nobody(server, engine, path, style, **options):
    """Nobody listening is one line, after the tries."""
    silent = served(server, engine, path, style, **options, backoff=0.01).model_copy(
        update={"url": f"http://127.0.0.1:{free_port()}/v1"}
    )
    with pytest.raises(Fault, match=r"no usable answer after 2 tries; the last time: not reached"):
        texts_of(ServerGenerator(silent), 1)


def no_chat_template(server, engine, path):
    """A base model asked by messages is one line that says what to choose."""
    with pytest.raises(UserError, match=r"^model\.style=chat: the served model has no chat template") as caught:
        texts_of(ServerGenerator(served(server, engine, path, "chat")), 1)
    print(caught.value)
