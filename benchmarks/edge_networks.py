"""Read the convolutions and networks of NeurstrucEnergy's edge board: layers and whole networks.

github.com/NEUSoftGreenAI/NeurstrucEnergy, commit 94c5c2f (MIT licence): an edge board with a GPU
behind an external direct-current meter. ``conv2d.txt`` has 999 single convolutions (and one
failed row), ``*_testset_N.txt`` whole networks, one a line: name, layer parameters, link matrix,
layer numbers and joules of a forward pass.

What the files are, found by reading them:

- ``energy`` of a convolution is above idle, ``all_energy`` = ``energy`` + ``silence_energy`` with
  the board's 1.7 W; a network has only ``all_energy``. The columns are joules.
- The files 1, 2 and 3 are three measurements of the same networks, with a standard deviation of
  0.6 %. The five "custom" networks carry the very energies of five of the seventeen "random"
  ones, so the 22 listed networks are 17 measured ones.
- Sizes in ``layer_parameters`` follow the order of the list, not the graph, so a shortcut's
  convolution is given the already halved image; ResNet50 ends at -5 x -5 pixels. The link matrix
  is right, so sizes are computed again along it (`Network.resized` counts what changed).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from profiler.errors import FileFormatError, InputFileError

Floats = NDArray[np.float64]
FOLDER = Path("data/dataset")
REPEATS = (1, 2, 3)
BYTES = 4
# kind and length of a layer's parameters, by the layer number of the files
KINDS = {
    1: ("conv", 19),
    7: ("pool", 17),
    13: ("global_pool", 9),
    16: ("batch_norm", 5),
    19: ("dropout", 5),
    21: ("linear", 4),
    22: ("activation", 6),
    23: ("concat", 3),
    24: ("add", 3),
}
# what leaves with a network when it is left out: variants of one architecture are no strangers
FAMILIES = {
    "MobileNetV1": "MobileNetV1",
    "MobileNetV2": "MobileNetV2",
    "MobileNetV3": "MobileNetV3",
    "MnasNet": "MnasNet",
    "resNeXt": "ResNet",
    "ResNet": "ResNet",
    "Scarlet": "Scarlet",
    "MoGa": "MoGa",
    "InceptionV1": "Inception",
    "VGG16": "VGG",
    "darknet": "Darknet",
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: sizes of a single image's input and output, in float32.

    Attributes:
        kind: of `KINDS`.
        channels, height, width: of the input.
        out_channels, out_height, out_width: of the output.
        kernel, stride, padding, dilation: (vertical, horizontal), for windows.
        groups: 1 for a dense convolution, the channels for a depthwise one.
    """

    kind: str
    channels: int
    height: int
    width: int
    out_channels: int
    out_height: int
    out_width: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and linear layers; 0 of others."""
        return self.weights * self.out_height * self.out_width

    @property
    def weights(self) -> int:
        if self.kind not in ("conv", "linear"):
            return 0
        taps = self.kernel[0] * self.kernel[1]
        return self.out_channels * (self.channels // self.groups) * taps

    @property
    def input_bytes(self) -> int:
        return BYTES * self.channels * self.height * self.width

    @property
    def output_bytes(self) -> int:
        return BYTES * self.out_channels * self.out_height * self.out_width

    @property
    def weight_bytes(self) -> int:
        return BYTES * self.weights

    @property
    def depthwise(self) -> bool:
        return self.kind == "conv" and 1 < self.groups == self.channels


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the board and what a forward pass cost.

    Attributes:
        name, family: what is left out together shares a family.
        layers: in the order of the file, sizes along the links.
        recorded: the same with the sizes of the file, possible or not.
        energies_j: J of a forward pass, one a measurement, idle share included.
        resized: layers whose recorded size does not follow from the links.
    """

    name: str
    family: str
    layers: tuple[Layer, ...]
    recorded: tuple[Layer, ...]
    energies_j: tuple[float, ...]
    resized: int

    @property
    def energy_j(self) -> float:
        return float(np.mean(self.energies_j))

    def of(self, *kinds: str) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.kind in kinds)


def read_convolutions(data: Path) -> tuple[tuple[Layer, ...], Floats, Floats]:
    """The single convolutions: layers, J above idle and J in all, shapes (n,).

    Raises:
        InputFileError: no such file.
        FileFormatError: not the expected columns.
    """
    path = data / FOLDER / "conv2d.txt"
    header, *lines = _lines(path)
    if header.split()[0] != "data" or header.split()[-1] != "all_energy":
        raise FileFormatError(f"{path} does not start with the columns data ... all_energy")
    layers, energies = [], []
    for line in lines:
        cells = line.split()
        if "," not in cells[0]:  # the failed row
            continue
        layers.append(_conv(_numbers(cells[0])))
        energies.append((float(cells[4]), float(cells[6])))
    both = np.array(energies)
    return tuple(layers), both[:, 0], both[:, 1]


def read_networks(data: Path) -> tuple[Network, ...]:
    """The networks of the "random" files, in which every measured network occurs once.

    Raises:
        InputFileError: no such file.
        FileFormatError: files of different networks, or parameters that do not parse.
    """
    files = [_lines(data / FOLDER / f"random_testset_{number}.txt")[1:] for number in REPEATS]
    return tuple(_network([line.split() for line in lines]) for lines in zip(*files, strict=True))


def listed_networks(data: Path) -> tuple[str, ...]:
    """The names of all 22 lines, the five of the "custom" files first."""
    sets = [_lines(data / FOLDER / f"{name}_testset_1.txt")[1:] for name in ("custom", "random")]
    return tuple(line.split(" ", 1)[0] for lines in sets for line in lines)


def _network(repeats: Sequence[list[str]]) -> Network:
    name, parameters, links, numbers, _ = repeats[0]
    if any(other[:4] != repeats[0][:4] for other in repeats):
        raise FileFormatError(f"the measurements of {name} are of different networks")
    family = next((known for start, known in FAMILIES.items() if name.startswith(start)), name)
    recorded = _layers(name, _numbers(parameters), [int(n) for n in numbers.split(",")])
    layers = _along(recorded, _matrix(name, _numbers(links), len(recorded)))
    changed = sum(a.output_bytes != b.output_bytes for a, b in zip(recorded, layers, strict=True))
    return Network(name, family, layers, recorded, tuple(float(r[4]) for r in repeats), changed)


def _layers(name: str, parameters: list[float], numbers: list[int]) -> tuple[Layer, ...]:
    layers, at = [], 0
    for number in numbers:
        kind, length = KINDS[number]
        p = parameters[at : at + length]
        at += length
        if kind == "conv":
            layers.append(_conv(p))
            continue
        n = [int(value) for value in p]
        if kind == "pool":
            pairs = ((n[8], n[9]), (n[10], n[11]), (n[12], n[13]), (n[14], n[15]))
            layers.append(Layer(kind, *n[1:4], *n[5:8], *pairs))
        elif kind == "global_pool":
            layers.append(Layer(kind, *n[1:4], *n[5:8]))
        elif kind == "batch_norm":
            layers.append(Layer(kind, *n[1:4], *n[1:4]))
        elif kind == "linear":
            layers.append(Layer(kind, n[1], 1, 1, n[3], 1, 1))
        elif kind == "dropout":
            layers.append(Layer(kind, n[1] * n[2] * n[3], 1, 1, n[1] * n[2] * n[3], 1, 1))
        else:  # activation, add, concat: elements alone
            layers.append(Layer(kind, n[1], 1, 1, n[1], 1, 1))
    if at != len(parameters):
        raise FileFormatError(f"{name} has {len(parameters)} parameters where its layers take {at}")
    return tuple(layers)


def _along(recorded: tuple[Layer, ...], links: NDArray[np.bool_]) -> tuple[Layer, ...]:
    """The layers with sizes that follow from their inputs' outputs."""
    done: list[Layer] = []
    for index, layer in enumerate(recorded):
        sources = [done[j] for j in np.flatnonzero(links[index, :index])]
        done.append(_sized(layer, sources) if sources else layer)
    return tuple(done)


def _sized(layer: Layer, sources: Sequence[Layer]) -> Layer:
    first = sources[0]
    height, width = first.out_height, first.out_width
    channels = first.out_channels
    if layer.kind in ("linear", "dropout"):
        return layer
    if layer.kind in ("conv", "pool"):
        if layer.kind == "conv":
            channels = layer.channels
        out = [_window(size, layer, axis) for axis, size in enumerate((height, width))]
        outputs = layer.out_channels if layer.kind == "conv" else channels
        return replace(
            layer,
            channels=channels,
            height=height,
            width=width,
            out_channels=outputs,
            out_height=out[0],
            out_width=out[1],
        )
    if layer.kind == "concat":
        channels = sum(source.out_channels for source in sources)
    small = layer.kind == "global_pool"
    return Layer(
        layer.kind,
        channels,
        height,
        width,
        channels,
        layer.out_height if small else height,
        layer.out_width if small else width,
    )


def _window(size: int, layer: Layer, axis: int) -> int:
    reach = layer.dilation[axis] * (layer.kernel[axis] - 1) + 1
    return (size + 2 * layer.padding[axis] - reach) // layer.stride[axis] + 1


def _conv(p: Sequence[float]) -> Layer:
    n = [int(value) for value in p]
    pairs = [(n[i], n[i + 1]) for i in (10, 12, 14, 16)]
    return Layer("conv", *n[1:4], *n[5:8], *pairs, groups=n[18])


def _matrix(name: str, entries: list[float], size: int) -> NDArray[np.bool_]:
    """Links as a square matrix: row i marks the inputs of layer i."""
    square = np.zeros((size, size), dtype=bool)
    if len(entries) == size * size:
        square[:] = np.reshape(np.array(entries) > 0, (size, size))
    elif len(entries) == size * (size + 1) // 2:
        square[np.tril_indices(size)] = np.array(entries) > 0
    else:
        raise FileFormatError(f"{name} has {len(entries)} links for {size} layers")
    return square


def _numbers(text: str) -> list[float]:
    return [float(value) for value in text.split(",")]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError as error:
        raise InputFileError(f"cannot read {path}: {error.strerror or error}") from error
