"""What the ablation table holds in memory, checked before anything is trained."""

from trakflow.errors import ConfigError


def ablation_bytes(checkpoints: int, n: int, m: int, k: int) -> int:
    """Return the bytes that the table of ablations needs: all features in float64, and systems of n x n and n x m.

    Args:
        checkpoints: How many.
        n: Number of training examples.
        m: Number of targets.
        k: Number of features.
    """
    # One checkpoint's features once more, weighted or as they are read. Products, the system and its factors; and where
    # a checkpoint is solved through its examples, the mean of the products beside these.
    squares = 3 if k <= n else 4
    return 8 * (checkpoints * (n + m) * k + n * k + squares * n * n + 8 * n * m)


def check_ablation(checkpoints: int, n: int, m: int, k: int, memory_mb: int) -> None:
    """Refuse a table of ablations that does not fit the memory.

    Raises:
        ConfigError: It does not.
    """
    needed = ablation_bytes(checkpoints, n, m, k) >> 20
    if needed > memory_mb:
        raise ConfigError(
            f"The ablation table holds the features of all checkpoints, {needed:,} MiB here, and runtime.memory_mb is "
            f"{memory_mb:,}; raise it, set fewer checkpoints or a smaller sketch.k, or leave the table out: "
            "paper.ablation=false."
        )
