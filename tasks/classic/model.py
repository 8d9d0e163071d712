"""The two networks of the classic task, as published."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.classic.config import Config, classes, shapes


class LeNet(nn.Module):
    """LeNet-300-100 (LeCun et al., 1998): two hidden layers of 300 and 100 rectified units on the flattened image.

    Gaussian Glorot initialisation and zero biases, as Frankle & Carbin (2019) train it.
    Input [n, channels, height, width] or already flat [n, pixels]; output logits [n, classes].
    """

    def __init__(self, pixels: int, classes: int):
        super().__init__()
        self.fc1 = nn.Linear(pixels, 300)
        self.fc2 = nn.Linear(300, 100)
        self.output = nn.Linear(100, classes)
        for layer in (self.fc1, self.fc2, self.output):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.fc1(images.flatten(1)))
        hidden = functional.relu(self.fc2(hidden))
        return self.output(hidden)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., 2016, figure 2).

    Where the shape changes the shortcut is their option A: every second pixel, and zeros for the new channels.
    It has no parameters, so nothing but the convolutions can carry the signal that pruning removes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.new_channels = outputs - inputs

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.norm1(self.conv1(images)))
        hidden = self.norm2(self.conv2(hidden))
        if self.stride != 1 or self.new_channels:
            before = self.new_channels // 2
            images = images[:, :, :: self.stride, :: self.stride]
            images = functional.pad(images, (0, 0, 0, 0, before, self.new_channels - before))
        return functional.relu(hidden + images)


class ResNet(nn.Module):
    """The CIFAR ResNet of depth 6n + 2 (He et al., 2016); ResNet-20 has n = 3 blocks a group.

    3x3 stem of 16 channels, groups of 16, 32 and 64 channels, global average pooling, one linear layer;
    He-normal convolutions. Input [n, channels, height, width]; output logits [n, classes].
    """

    def __init__(self, channels: int, classes: int, blocks: int = 3):
        super().__init__()
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        groups, width = [], 16
        for group, outputs in enumerate((16, 32, 64)):
            for position in range(blocks):
                groups.append(Block(width, outputs, stride=2 if group and not position else 1))
                width = outputs
        self.blocks = nn.Sequential(*groups)
        self.output = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(self.output.bias)

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.norm(self.stem(images)))
        hidden = self.blocks(hidden)
        return self.output(torch.mean(hidden, dim=(2, 3)))


def build(config: Config) -> nn.Module:
    """The network named by ``config.model``, freshly initialised from torch's global generator."""
    channels, height, width = shapes[config.dataset]
    return LeNet(channels * height * width, classes) if config.model == "lenet-300-100" else ResNet(channels, classes)
