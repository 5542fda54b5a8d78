"""The sum over bytes against its definition, and against what it must notice."""

import numpy as np
import pytest

from cubeflow.storage.sums import BLOCK_WORDS, byte_sum

SPREAD, MODULUS = 0x9E3779B97F4A7C15, 1 << 64


def slow_sum(content: bytes, start: int = 0) -> int:
    """Word by word, with Python's integers."""
    whole = len(content) // 8 * 8
    words = [int.from_bytes(content[k : k + 8], "little") for k in range(0, whole, 8)]
    total = start
    for first in range(0, len(words), BLOCK_WORDS):
        part = sum((2 * k + 1) * SPREAD * word for k, word in enumerate(words[first : first + BLOCK_WORDS]))
        total = (total * SPREAD + part) % MODULUS
    return ((total * SPREAD + int.from_bytes(content[whole:], "little")) * SPREAD + len(content)) % MODULUS


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 1000, 8 * BLOCK_WORDS, 8 * BLOCK_WORDS + 13])
def test_byte_sum_is_that_of_a_slow_twin(size: int) -> None:
    content = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    assert byte_sum(content, 5) == slow_sum(content.tobytes(), 5)


def test_byte_sum_takes_any_type_and_shape() -> None:
    values = np.random.default_rng(3).normal(size=(3, 5, 7)).astype("f4")
    assert byte_sum(values) == slow_sum(values.tobytes())
    assert byte_sum(values[:, ::2]) == slow_sum(values[:, ::2].tobytes())


def test_every_flipped_bit_and_every_exchange_shows() -> None:
    content = np.random.default_rng(4).integers(0, 256, 203, dtype=np.uint8)
    right = byte_sum(content)
    for byte in range(content.size):
        for bit in range(8):
            content[byte] ^= 1 << bit
            assert byte_sum(content) != right
            content[byte] ^= 1 << bit
    words = content[:200].view(np.uint64)
    for first in range(24):
        words[[first, first + 1]] = words[[first + 1, first]]
        assert byte_sum(content) != right
        words[[first, first + 1]] = words[[first + 1, first]]
    assert byte_sum(content) == right


def test_order_of_blocks_matters() -> None:
    first, second = np.arange(16.0), np.arange(16.0, 32.0)
    assert byte_sum(second, byte_sum(first)) != byte_sum(first, byte_sum(second))
    assert byte_sum(np.zeros(8)) != byte_sum(np.zeros(9))
