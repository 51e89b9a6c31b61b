"""The named models. Every module that owns parameters is called in ``forward``.

That matters to the profiler: it times training by module, through hooks, and a tensor that
is read without its module being called would be missed. Hence the position table of the
transformer is an embedding that is called, and not a bare parameter.

LeNet: LeCun et al. 1998. ResNets: He et al. 2016, the form for 32x32 images. Transformer:
Vaswani et al. 2017 over image patches, Dosovitskiy et al. 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from profiler.errors import InputError

Image = tuple[int, int, int]


class LeNet(nn.Module):
    """Two 5x5 convolutions and three linear layers; 62 006 parameters for 3x32x32.

    Images under 32 pixels are padded so that the second convolution has something to see.
    """

    def __init__(self, image: Image, classes: int) -> None:
        super().__init__()
        channels, height, width = image
        padding = 0 if min(height, width) >= 32 else 2
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=padding)
        self.conv2 = nn.Conv2d(6, 16, 5, padding=padding)
        rows, columns = (_pooled(_pooled(side, padding), padding) for side in (height, width))
        self.fc1 = nn.Linear(16 * rows * columns, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)
        _for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.fc1(x.flatten(1)))
        scores: Tensor = self.fc3(functional.relu(self.fc2(x)))
        return scores


def _pooled(side: int, padding: int) -> int:
    """The side after a 5x5 convolution and 2x2 pooling."""
    return (side + 2 * padding - 4) // 2


def _for_relu(model: nn.Module) -> None:
    """Weights of variance 2 / inputs (He et al. 2015): rounds are few, so start well."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class MLP(nn.Module):
    """Two hidden layers of 128 and 64 units."""

    def __init__(self, image: Image, classes: int) -> None:
        super().__init__()
        channels, height, width = image
        self.fc1 = nn.Linear(channels * height * width, 128)
        self.fc2 = nn.Linear(128, 64)
        self.fc3 = nn.Linear(64, classes)
        _for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.fc1(x.flatten(1)))
        scores: Tensor = self.fc3(functional.relu(self.fc2(x)))
        return scores


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A 3x3 stem, then one stage of basic blocks a width; each but the first halves the image."""

    def __init__(self, image: Image, classes: int, widths: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(image[0], widths[0], 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(widths[0])
        stages: list[nn.Module] = []
        inputs = widths[0]
        for number, width in enumerate(widths):
            for block in range(blocks):
                stride = 2 if number > 0 and block == 0 else 1
                stages.append(_BasicBlock(inputs, width, stride))
                inputs = width
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(functional.relu(self.norm1(self.conv1(x))))
        scores: Tensor = self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return scores


def resnet8(image: Image, classes: int) -> ResNet:
    """Widths 16, 32, 64, one block each: 78 042 parameters for 3x32x32 and ten classes."""
    return ResNet(image, classes, (16, 32, 64), 1)


def resnet18(image: Image, classes: int) -> ResNet:
    """Widths 64 to 512, two blocks each: 11 173 962 parameters for 3x32x32 and ten classes."""
    return ResNet(image, classes, (64, 128, 256, 512), 2)


class _Attention(nn.Module):
    """Multi-head self-attention; (batch, tokens, width) to the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        split = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return result


class _EncoderBlock(nn.Module):
    """Attention, then a two-layer network, each after a LayerNorm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        result: Tensor = x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))
        return result


class Transformer(nn.Module):
    """Two encoder blocks of width 64 and four heads over square patches, mean-pooled."""

    def __init__(self, image: Image, classes: int, width: int = 64, depth: int = 2) -> None:
        super().__init__()
        channels, height, across = image
        self.patch = _patch(height, across)
        tokens = (height // self.patch) * (across // self.patch)
        self.embed = nn.Linear(channels * self.patch**2, width)
        self.position = nn.Embedding(tokens, width)
        self.blocks = nn.Sequential(*(_EncoderBlock(width, 4) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        patches = functional.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        places = torch.arange(patches.shape[1], device=x.device)
        tokens = self.embed(patches) + self.position(places)
        scores: Tensor = self.head(self.norm(self.blocks(tokens)).mean(dim=1))
        return scores


def _patch(height: int, width: int) -> int:
    """The patch side: 4, or 2 where 4 leaves fewer than 16 patches."""
    for side in (4, 2):
        if height % side == 0 and width % side == 0 and height * width >= 16 * side * side:
            return side
    raise InputError(f"the transformer needs even sides of 8 pixels or more, got {height}x{width}")
