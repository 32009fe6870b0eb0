"""Files at addresses."""

import shutil
import urllib.request
from pathlib import Path


def download(address: str, path: Path) -> Path:
    """Write what an address holds to a path, and return the path.

    Raises:
        OSError, http.client.HTTPException: It cannot be reached, or breaks off.
    """
    with urllib.request.urlopen(address, timeout=60) as response, path.open("wb") as file:
        shutil.copyfileobj(response, file)
    return path
