"""What a sequence classifier says of sentences."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fairloop.errors import UserError
from fairloop.plm.batching import by_length, distinct
from fairloop.plm.loading import load_model, load_tokenizer, window

TOXIC_LABELS = ("toxic", "toxicity", "hate")
"""What classifiers of toxicity call their toxic label."""


class SentenceClassifier:
    """Probabilities of labels under any sequence classifier.

    Attributes:
        labels: the names of its labels.
    """

    def __init__(self, path: str, *, device: str = "cpu", batch_tokens: int = 4096, key: str) -> None:
        """Load the classifier.

        Args:
            path: Hub id or folder.
            device: where it runs.
            batch_tokens: padded tokens in one batch.
            key: the configuration key of the path, for messages.

        Raises:
            UserError: there is no such model.
        """
        self.tokenizer = load_tokenizer(path, key=key)
        self.model = load_model(path, "classifier", device=device, key=key)
        self.window = window(self.model)
        self.batch_tokens = batch_tokens
        names = self.model.config.id2label
        self.labels = [str(names[number]) for number in sorted(names)]
        # Each label by itself (as in the Jigsaw classifiers), or one of them only.
        self.independent = (
            self.model.config.problem_type == "multi_label_classification" or len(self.model.config.id2label) == 1
        )

    def place(self, names: Sequence[str], key: str, given: str | None) -> int:
        """Return the place of the one label that has one of these names, capitals aside.

        Raises:
            UserError: none has, or several; the line names `key`, what was `given` there, and the labels.
        """
        wanted = [name.lower() for name in names]
        fitting = [place for place, label in enumerate(self.labels) if label.lower() in wanted]
        if len(fitting) != 1:
            raise UserError.of(key, "null" if given is None else given, f"choose one of {', '.join(self.labels)}")
        return fitting[0]

    def __call__(self, sentences: Sequence[str]) -> np.ndarray:
        """Return the probability of each label for each sentence, [n, labels]; overlong ones are cut at the window."""
        import torch

        unique, places = distinct(sentences)
        scores = np.zeros((len(unique), len(self.labels)))
        if not unique:
            return scores
        ids = self.tokenizer(unique, truncation=self.window is not None, max_length=self.window)["input_ids"]
        with torch.inference_mode():
            for batch in by_length([len(row) for row in ids], self.batch_tokens):
                scores[batch] = self._probabilities([ids[index] for index in batch])
        return scores[places]

    def _probabilities(self, rows: list[list[int]]) -> np.ndarray:
        import torch

        inputs: Any = self.tokenizer.pad({"input_ids": rows}, return_tensors="pt").to(self.model.device)
        logits = self.model(**inputs).logits.float()
        spread = torch.sigmoid(logits) if self.independent else torch.softmax(logits, dim=-1)
        return np.asarray(spread.cpu().numpy())
