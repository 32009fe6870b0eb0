"""Settings of methods that are fitted on retrained models, checked before any of these is trained."""

from collections.abc import Mapping, Sequence
from typing import Any

from trakflow.held_out import number_held_out, smallest_count
from trakflow.layout import FITTING

DATAMODEL = "trakflow.methods.datamodel.Datamodel"
EMPIRICAL_INFLUENCE = "trakflow.methods.empirical_influence.EmpiricalInfluence"
# How many examples may be expected in all or none of the subsets before these are drawn to see.
NEGLIGIBLE = 1e-9


def check_fitted(name: str, make: Mapping[str, Any], counts: Sequence[int], setting: str) -> None:
    """Refuse numbers of subsets that are too few to hold any out.

    Args:
        name: Of the method.
        make: Its component.
        counts: Numbers of subsets that it is fitted on.
        setting: What sets them.

    Raises:
        ValueError: One is too small.
    """
    part = make.get("held_out", 0.2)
    if make["_target_"] != DATAMODEL or not isinstance(part, int | float) or not 0 < part < 1:
        return
    few = [count for count in counts if number_held_out(count, part) is None]
    if few:
        needed = smallest_count(part)
        raise ValueError(
            f"{setting}: {name} chooses a penalty on {part:g} of the subsets and fits it on the others, at least 2 of "
            f"each, which {few[0]} subsets do not give; "
            + (f"set it to at least {needed}" if needed else f"set method.{name}.make.held_out nearer to a half")
        )


def check_in_some_and_not_all(
    name: str, make: Mapping[str, Any], counts: Sequence[int], setting: str, size: int, fraction: float, seed: int
) -> None:
    """Refuse numbers of subsets by which an example is in all or in none of them, for a method that compares the two.

    Args:
        name: Of the method.
        make: Its component.
        counts: Numbers of subsets that it is fitted on, ascending.
        setting: What sets them.
        size: Number of training examples.
        fraction: Part of them in a subset.
        seed: The experiment's.

    Raises:
        ValueError: The smallest number is too small.
    """
    if make["_target_"] != EMPIRICAL_INFLUENCE:
        return
    count = counts[0]
    if size * (fraction**count + (1 - fraction) ** count) < NEGLIGIBLE:
        return
    # Imported here: most experiments have no need to draw them, and the command line is to answer soon.
    from trakflow.subsets import random_subsets

    masks = random_subsets(size, fraction, seed, FITTING, range(count))
    same = int((masks.all(axis=0) | ~masks.any(axis=0)).sum())
    if same:
        raise ValueError(
            f"{setting}: {name} compares models that have seen an example with others, and {same} of the {size} "
            f"training examples are in all or in none of {count} subsets; set it to larger numbers"
        )
