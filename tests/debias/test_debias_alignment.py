import numpy as np
import pytest
import torch
from planted import half_taught, neutral, pairs

from fairloop.debias.fair_gender.alignment import IMPLAUSIBLE, NOT_RECOVERED, align, target_ranks
from fairloop.debias.fair_gender.tokens import Tokens
from fairloop.errors import UserError
from fairloop.plm.model import LanguageModel


@pytest.fixture(scope="module")
def plm(tmp_path_factory):
    model, tokenizer = half_taught(tmp_path_factory.mktemp("plm"), steps=60)
    return LanguageModel(model, tokenizer, "masked")


def logits(plm, ids):
    with torch.no_grad():
        return plm.model(input_ids=torch.tensor([ids])).logits[0].double()


def likelihood_by_hand(plm, sentence):
    ids = plm.tokenizer(sentence)["input_ids"]
    scores = []
    for place, token in enumerate(ids):
        masked = [plm.tokenizer.mask_token_id if n == place else other for n, other in enumerate(ids)]
        scores.append(float(logits(plm, masked)[place].log_softmax(-1)[token]))
    return np.mean(scores)


def rank_by_hand(plm, sentence, target):
    ids = plm.tokenizer(sentence)["input_ids"]
    place = ids.index(plm.tokenizer.convert_tokens_to_ids(target))
    truth, ids[place] = ids[place], plm.tokenizer.mask_token_id
    order = logits(plm, ids)[place].argsort(descending=True).tolist()
    return order.index(truth) + 1


def test_plausibility_and_rank_equal_brute_force_and_decide(plm):
    some, reference = pairs(4)[0], neutral()
    tokens = Tokens(plm.tokenizer, "masked", 64)
    floor = np.quantile([likelihood_by_hand(plm, text) for text in reference], 0.25)
    worst = [max(rank_by_hand(plm, text, pair.target) for text in (pair.male, pair.female)) for pair in some]
    limit = int(np.median(worst))
    found = align(plm, tokens, some, reference, quantile=0.25, rank=limit)
    assert target_ranks(plm.model, tokens, some) == worst
    for pair, rank, one in zip(some, worst, found, strict=True):
        plausible = min(likelihood_by_hand(plm, text) for text in (pair.male, pair.female))
        assert one.plausibility == pytest.approx(plausible, abs=1e-4)
        assert one.rank == rank
        assert one.reason == (IMPLAUSIBLE if plausible < floor else NOT_RECOVERED if rank > limit else "")
    everything = align(plm, tokens, some, ["and the and the and"], quantile=0.0, rank=1000)
    assert {one.reason for one in everything} <= {"", IMPLAUSIBLE}


def test_alignment_needs_reference_sentences(plm):
    with pytest.raises(UserError, match=r"^debias\.alignment: there are no neutral sentences"):
        align(plm, Tokens(plm.tokenizer, "masked", 64), pairs(1)[0], [], quantile=0.1, rank=5)
