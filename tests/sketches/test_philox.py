import pytest
import torch

from trakflow.sketches.philox import philox, random_bits

# philox4x32-10 of Random123's kat_vectors: counter, key, result.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN_ANSWERS)
def test_published_known_answers(counter, key, result):
    found = philox(tuple(torch.tensor(word) for word in words(counter)), tuple(words(key)))
    assert [int(word) for word in found] == words(result)


def test_many_counters_at_once_give_what_each_gives_alone():
    rows = torch.arange(5) * 0x1FFFFFFF
    zero = torch.zeros((), dtype=torch.int64)
    together = torch.stack(torch.broadcast_tensors(*philox((rows[:, None], torch.arange(3), zero, zero), (7, 9))))
    for row in range(5):
        for group in range(3):
            alone = philox((rows[row], torch.tensor(group), zero, zero), (7, 9))
            assert together[:, row, group].tolist() == [int(word) for word in alone]


def test_bit_j_of_a_row_is_a_bit_of_the_word_that_the_documentation_says():
    seed, rows = 0x0123456789ABCDEF, [0, 5, 2**32 - 1]
    bits = random_bits(torch.tensor(rows), 300, seed)
    assert bits.shape == (3, 300)
    zero = torch.tensor(0)
    for position, row in enumerate(rows):
        for j in (0, 1, 31, 32, 97, 127, 128, 255, 256, 299):
            found = philox((torch.tensor(row), torch.tensor(j // 128), zero, zero), (0x89ABCDEF, 0x01234567))
            assert int(bits[position, j]) == int(found[(j // 32) % 4]) >> (j % 32) & 1


def test_bits_are_fair_and_rows_and_columns_uncorrelated():
    signs = random_bits(torch.arange(2000), 200, 1).double() * 2 - 1
    assert abs(float(signs.mean())) < 5 / (2000 * 200) ** 0.5
    columns = signs.T @ signs / 2000 - torch.eye(200)
    # The largest of 19,900 normal deviations is beyond six standard errors once in 25,000 seeds.
    assert float(columns.abs().max()) < 6 / 2000**0.5
    rows = signs[:200] @ signs[:200].T / 200 - torch.eye(200)
    assert float(rows.abs().max()) < 6 / 200**0.5
