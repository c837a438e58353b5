"""What every benchmark says to a model or to data that it cannot use, and what becomes of items that it skips."""

import copy
import math

import pytest
import torch
from plm_models import SENTENCES
from test_benchmarks_crows_pairs import PAIRS, to_csv
from test_benchmarks_seat import SETS, as_test
from test_benchmarks_stereoset import json_lines

from fairloop.benchmarks import crows_pairs
from fairloop.benchmarks.crows_pairs import CrowsPairsSettings
from fairloop.benchmarks.lpbs import LpbsSettings
from fairloop.benchmarks.perplexity import PerplexitySettings
from fairloop.benchmarks.registry import measure
from fairloop.benchmarks.seat import SeatSettings
from fairloop.benchmarks.stereoset import StereoSetSettings
from fairloop.errors import Fault, UserError
from fairloop.plm.model import LanguageModel


@pytest.fixture
def all_data(write, tmp_path):
    write({crows_pairs.FILE: to_csv(PAIRS), "stereoset_dev.jsonl": json_lines(), "text.txt": SENTENCES[0]})
    return tmp_path


def masked_settings(folder):
    given = {"data": str(folder), "verify": False, "resamples": 10}
    return [
        CrowsPairsSettings(protocol="meade2022", **given),
        CrowsPairsSettings(protocol="nangia2020", **given),
        StereoSetSettings(**given),
        LpbsSettings(resamples=10),
        PerplexitySettings(text=str(folder / "text.txt"), resamples=10),
    ]


@pytest.mark.parametrize("number", range(5))
def test_a_masked_model_without_a_mask_token_is_one_line(tiny_plm, all_data, number):
    plm = tiny_plm("bert")
    plm.tokenizer = copy.deepcopy(plm.tokenizer)  # the tests' models share it
    plm.tokenizer.mask_token = None
    with pytest.raises(UserError, match="plm=bert: a masked protocol needs a mask token, and its tokenizer has none"):
        measure(plm, masked_settings(all_data)[number])


@pytest.mark.parametrize("number", range(5))
def test_nan_logits_end_a_benchmark_and_name_the_item(tiny_plm, all_data, number):
    plm = tiny_plm("bert")
    broken = copy.deepcopy(plm.model)
    with torch.no_grad():
        broken.cls.predictions.bias[3] = math.nan
    damaged = LanguageModel(broken, plm.tokenizer, "masked", name="damaged")
    with pytest.raises(Fault, match=r"^plm=damaged: a log probability is not a finite number, at \S+") as caught:
        measure(damaged, masked_settings(all_data)[number])
    assert "\n" not in str(caught.value)


def test_nan_embeddings_end_seat_and_name_the_sentence(tiny_plm, write):
    plm = tiny_plm("bert")
    broken = copy.deepcopy(plm.model)
    with torch.no_grad():
        broken.bert.embeddings.LayerNorm.bias[0] = math.nan
    damaged = LanguageModel(broken, plm.tokenizer, "masked", name="damaged")
    with pytest.raises(Fault, match=r"embedding: sentence 0 has a value that is not finite"):
        measure(damaged, SeatSettings(data=str(write({"one.jsonl": as_test(SETS)})), resamples=10, verify=False))


@pytest.mark.parametrize("settings", [CrowsPairsSettings, StereoSetSettings])
def test_another_checksum_is_refused_unless_it_is_accepted(tiny_plm, all_data, settings):
    with pytest.raises(Fault, match="its checksum is not the publisher's") as caught:
        measure(tiny_plm("bert"), settings(data=str(all_data), resamples=10))
    assert "benchmark.verify=false" in str(caught.value)


def test_wrong_encoding_is_named_by_file(tiny_plm, all_data):
    for name, settings in ((crows_pairs.FILE, CrowsPairsSettings), ("stereoset_dev.jsonl", StereoSetSettings)):
        (all_data / name).write_bytes((all_data / name).read_text().replace("nurse", "infirmière").encode("latin-1"))
        with pytest.raises(Fault, match=rf"{name}: not UTF-8 text"):
            measure(tiny_plm("bert"), settings(data=str(all_data), verify=False))


def test_a_group_that_is_left_empty_is_undefined_and_its_items_are_listed(tiny_plm, write):
    longer = ("Asian children study.", "Asian children do not study.", "stereo", "race-color")
    folder = write({crows_pairs.FILE: to_csv([longer, longer])})
    result = measure(tiny_plm("bert"), CrowsPairsSettings(data=str(folder), verify=False, resamples=10))
    assert [skip.item for skip in result.skipped] == ["0", "1"]
    assert result.value("crows_pairs/skipped") == 2
    overall = next(one for one in result.measurements if one.metric == "crows_pairs/overall/score")
    assert math.isnan(overall.value)
    assert overall.n == 0
    assert result.items == []
