"""A list of datasets as gammapy's ``Datasets.read`` opens it, beside the FITS file it names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

FILE_NAME = "datasets.yaml"


def datasets_yaml(datasets: Sequence[tuple[str, str, str]]) -> bytes:
    """Text of the list.

    Parameters
    ----------
    datasets : sequence of (str, str, str)
        Name, type (``MapDataset``, ``MapDatasetOnOff``) and file, relative to the list, of each.

    Returns
    -------
    bytes
        YAML with the checksum that gammapy verifies: of the text in the form in which it writes it.
    """
    import yaml

    content = {"datasets": [{"name": name, "type": kind, "filename": file} for name, kind, file in datasets]}
    text = yaml.safe_dump(content, sort_keys=False, indent=4, width=80, default_flow_style=False)
    checksum = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    return f"{text}checksum: {checksum}\n".encode()
