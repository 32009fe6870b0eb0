"""The tensor sketch of every small module as on a GPU, by interpreted Triton kernels, beside the CPU's own.

A process of its own, since triton reads its environment when it is imported; prints a line for each module.
"""

from oracle import Sum
from zoo import MODULES, make

from trakflow.sketches import hashing, tensor_sketch
from trakflow.sketches.parameters import differentiated_parameters

K, SEED = 300, 3


def features(name):
    model, inputs = make(name)
    return tensor_sketch.TensorSketch(model, Sum(), differentiated_parameters(model), K, SEED)(
        {"inputs": inputs}
    ).features


def main():
    tensor_sketch.cheaper_route = lambda *_: "scatter"
    hashing.scatter.COMPILED_FROM = 1 << 62
    expected = {name: features(name) for name in MODULES}
    for module in (hashing, tensor_sketch):
        module.starts_at_once = lambda device: False
        module.has_triton_kernels = lambda device: True
    for name in MODULES:
        difference = (features(name) - expected[name]).abs().max() / expected[name].abs().max()
        print(f"{name}: {float(difference):.1e}")
        assert 0 <= difference < 1e-12


if __name__ == "__main__":
    main()
