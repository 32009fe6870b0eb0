"""How many of the subsets that a method is fitted on choose its penalty; without torch, for the configuration too."""


def number_held_out(count: int, part: float) -> int | None:
    """Return how many subsets are held out, and fitted on only when the penalty is chosen.

    Args:
        count: Number of subsets.
        part: Of them, to hold out.

    Returns:
        The number; None where it, or what is left to fit on, is less than the two that it takes to compare.
    """
    held = round(part * count)
    return held if min(held, count - held) >= 2 else None


def smallest_count(part: float, below: int = 10_000) -> int | None:
    """Return the smallest number of subsets of which a part can be held out; None if none below some number is."""
    return next((count for count in range(4, below) if number_held_out(count, part) is not None), None)
