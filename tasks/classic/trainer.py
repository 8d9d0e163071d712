"""Image classification: cross-entropy, accuracy in percent."""

import io
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from common.errors import UserError, reason
from common.training.trainer import Trainer as Base
from tasks.classic import data, model


class Trainer(Base):
    metric = "accuracy"

    def load(self) -> data.Data:
        return data.load(self.task)

    def build(self) -> torch.nn.Module:
        network = model.build(self.task)
        if not self.task.pretrained:
            return network
        try:  # a state dict, or a stage's ``weights.pt``, which holds one as ``model``
            content = torch.load(io.BytesIO(self.data.weights), map_location="cpu", weights_only=True)
            if not isinstance(content, dict):
                raise TypeError(f"it holds a {type(content).__name__}")
            network.load_state_dict(content["model"] if isinstance(content.get("model"), dict) else content)
        except Exception as problem:  # torch raises a dozen kinds on a file that is not what it should be
            raise UserError(
                f"task.pretrained: {self.task.pretrained} does not fit task.model={self.task.model} on "
                f"task.dataset={self.task.dataset} ({reason(problem)}); expected its state dict"
            ) from problem
        return network

    def examples(self) -> int:
        return len(self.data.train)

    def batch(self, indices: torch.Tensor, position: int) -> tuple:
        train = self.data.train
        images, labels = train.images[indices], train.labels[indices]
        if self.task.augment:
            images = data.augment(images, torch.Generator().manual_seed(self.stream("augmentation", position)))
        return images.to(self.device), labels.to(self.device)

    def loss(self, model: Any, batch: tuple) -> torch.Tensor:
        images, labels = batch
        return cross_entropy(model(images), labels)

    @torch.no_grad()
    def evaluate(self, model: Any, split: str) -> dict:
        examples = getattr(self.data, split)
        loss, answers = 0.0, []
        for start in range(0, len(examples), 1000):
            labels = examples.labels[start : start + 1000].to(self.device)
            outputs = model(examples.images[start : start + 1000].to(self.device))
            loss += cross_entropy(outputs, labels, reduction="sum").item()
            answers.append(outputs.argmax(1).cpu())
        predicted = torch.cat(answers)
        return {
            "score": 100 * (predicted == examples.labels).double().mean().item(),
            "loss": loss / len(examples),
            "constant": bool((predicted == predicted[0]).all()),
        }

    def baseline(self) -> float:
        majority = self.data.train.labels.bincount().argmax()
        return 100 * (self.data.test.labels == majority).double().mean().item()
