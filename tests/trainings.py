"""Short calls of trainings."""

from pathlib import Path

from fairloop.training.classify import train_classifier
from fairloop.training.hook import Training
from fairloop.training.train import train


def trained(task, model, trainer, folder, *, seed=0, stage="s", **told):
    return train(task, model, Training(trainer, seed, Path(folder), **told), stage=stage)


def classified(items, labels, settings, trainer, folder, *, seed=0, stage="s", validation=None, encoder="", **told):
    training = Training(trainer, seed, Path(folder), **told)
    return train_classifier(items, labels, settings, training, stage=stage, validation=validation, encoder=encoder)
