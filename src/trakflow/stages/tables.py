"""Tables of a results folder, read with an error in a sentence where one is damaged."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from trakflow.errors import StoreError


def read_table(path: Path | str, columns: Collection[str] = ()) -> pd.DataFrame:
    """Read a csv or parquet table.

    Args:
        path: Ends in .csv or .parquet.
        columns: That it must have.

    Raises:
        StoreError: It cannot be read, or lacks one of the columns.
    """
    read = pd.read_parquet if str(path).endswith(".parquet") else pd.read_csv
    try:
        table = read(path)
    # What pandas and pyarrow raise depends on where the damage is.
    except Exception as error:
        raise StoreError(
            f"{path} cannot be read as a table ({type(error).__name__}: {' '.join(str(error).split())[:200]}). Delete "
            "it and run the same command again."
        ) from error
    if missing := [name for name in columns if name not in table.columns]:
        raise StoreError(f"{path} has no column {', '.join(missing)}. Delete it and run the same command again.")
    return table
