"""Settings of methods that are fitted on retrained models, checked before any of these is trained."""

from collections.abc import Mapping, Sequence
from typing import Any

from trakflow.held_out import number_held_out, smallest_count

DATAMODEL = "trakflow.methods.datamodel.Datamodel"


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
