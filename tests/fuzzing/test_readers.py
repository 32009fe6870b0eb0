"""What the fuzzer begins from is whole, and what is near it is read or refused; without the fuzzer itself."""

import random

import pytest
from readers import READERS, Reader

# Of these the contents are known by their sha256, so that no small file is taken.
PUBLISHED = ("speeches", "cifar10", "idx")
SLOW = ("experiment_yaml",)


def test_any_other_error_is_not_a_refusal():
    with pytest.raises(ZeroDivisionError):
        Reader("a", lambda folder: 1 // len((folder / "a").read_bytes()), list)(b"")


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore")
def test_a_whole_file_is_taken_and_damaged_ones_are_taken_or_refused(name):
    reader, chance = READERS[name], random.Random(0)
    seeds = reader.seeds()
    assert any(reader(seed) for seed in seeds) == (name not in PUBLISHED)
    for _ in range(3 if name in SLOW else 40):
        content = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(4)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        reader(bytes(content[: chance.choice([len(content), chance.randrange(len(content))])]))
