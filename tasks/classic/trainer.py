"""Image classification: cross-entropy, accuracy in percent."""

import torch
from torch.nn.functional import cross_entropy

from common import seeds
from common.training.trainer import Trainer as Base
from tasks.classic import data, model


class Trainer(Base):
    metric = "accuracy"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._data = None

    @property
    def data(self) -> data.Data:
        if self._data is None:
            self._data = data.load(self.task)
        return self._data

    def build(self):
        network = model.build(self.task)
        if self.task.pretrained:
            network.load_state_dict(torch.load(self.task.pretrained, map_location="cpu", weights_only=True))
        return network

    def examples(self):
        return len(self.data.train)

    def batch(self, indices, position):
        train = self.data.train
        images, labels = train.images[indices], train.labels[indices]
        if self.task.augment:
            images = data.augment(images, seeds.generator(self.run.seed, "augmentation", position))
        return images.to(self.device), labels.to(self.device)

    def loss(self, model, batch):
        images, labels = batch
        return cross_entropy(model(images), labels)

    @torch.no_grad()
    def evaluate(self, model, split):
        examples = getattr(self.data, split)
        loss, predicted = 0.0, []
        for start in range(0, len(examples), 1000):
            labels = examples.labels[start : start + 1000].to(self.device)
            outputs = model(examples.images[start : start + 1000].to(self.device))
            loss += cross_entropy(outputs, labels, reduction="sum").item()
            predicted.append(outputs.argmax(1).cpu())
        predicted = torch.cat(predicted)
        return {
            "score": 100 * (predicted == examples.labels).double().mean().item(),
            "loss": loss / len(examples),
            "constant": bool((predicted == predicted[0]).all()),
        }

    def baseline(self):
        majority = self.data.train.labels.bincount().argmax()
        return 100 * (self.data.test.labels == majority).double().mean().item()
