"""The classic task's networks have the published shapes, sizes and initialisation."""

import torch

from tasks.classic import model
from tasks.classic.config import Config


def test_the_networks_have_the_published_sizes():
    torch.manual_seed(0)
    lenet = model.build(Config(dataset="mnist"))
    assert sum(w.numel() for w in lenet.parameters() if w.ndim > 1) == 784 * 300 + 300 * 100 + 100 * 10 == 266_200
    assert sum(w.numel() for w in lenet.parameters() if w.ndim == 1) == 410
    assert lenet(torch.zeros(2, 1, 28, 28)).tolist() == [[0.0] * 10] * 2, "zero biases"
    assert abs(lenet.fc1.weight.std().item() - (2 / 1084) ** 0.5) < 1e-3, "Glorot"
    resnet = model.build(Config(dataset="cifar10", model="resnet-20"))
    convolutions = 432 + 6 * 2304 + 4608 + 5 * 9216 + 18432 + 5 * 36864  # stem; groups of 16, 32 and 64 channels
    normalisation = 2 * (7 * 16 + 6 * 32 + 6 * 64)  # one scale and one shift a channel
    assert sum(w.numel() for w in resnet.parameters()) == convolutions + normalisation + 650 == 269_722
    assert sum(isinstance(m, (torch.nn.Conv2d, torch.nn.Linear)) for m in resnet.modules()) == 20
    assert resnet(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert model.build(Config(model="resnet-20"))(torch.randn(2, 1, 8, 8)).shape == (2, 10)


def test_a_shortcut_without_parameters_halves_the_image_and_fills_channels_with_zeros():
    block = model.Block(2, 6, stride=2).eval()
    torch.nn.init.zeros_(block.conv2.weight)  # silences the convolutions: what is left is the shortcut
    images = torch.rand(1, 2, 4, 4)
    outputs = block(images)
    assert torch.equal(outputs[:, 2:4], images[:, :, ::2, ::2])
    assert outputs.shape == (1, 6, 2, 2) and not outputs[:, :2].any() and not outputs[:, 4:].any()


def test_an_image_gets_the_same_answer_alone_and_in_company():
    torch.manual_seed(0)
    network, images = model.build(Config(dataset="cifar10", model="resnet-20")), torch.randn(5, 3, 32, 32)
    network(images)  # running averages of some data
    network.eval()
    alone = torch.cat([network(image[None]) for image in images])
    assert torch.allclose(network(images), alone, atol=1e-5)
