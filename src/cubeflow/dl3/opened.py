"""The files of one run, each read once, and the HDUs an index points to in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cubeflow.dl3.bintable import Table, open_table
from cubeflow.dl3.blocks import Hdu, check_sums, digest_of, scan_hdus
from cubeflow.dl3.entries import HduRef
from cubeflow.dl3.files import FileRefused, read_content
from cubeflow.dl3.quirks import Facts, Notes, header_quirks


@dataclass
class OpenedFiles:
    """HDUs of the files read so far.

    Parameters
    ----------
    digests : mapping of str to str
        Content digests the HDUs must have, by HDU type; a type that is not there may hold anything.
    hdus : dict of Path to HDUs
        What was read.
    """

    digests: Mapping[str, str] = field(default_factory=dict)
    hdus: dict[Path, tuple[Hdu, ...]] = field(default_factory=dict)

    def table(self, ref: HduRef, notes: Notes) -> Table:
        """Table that an index row points to; its checksums hold, its quirks are noted.

        Raises
        ------
        FileRefused
            If the file cannot be read, has no such HDU, or a checksum or digest disagrees.
        """
        if ref.path not in self.hdus:
            self.hdus[ref.path] = scan_hdus(read_content(ref.path, md5=ref.md5), ref.path)
        hdu = _find(self.hdus[ref.path], ref)
        check_sums(hdu)
        expected = self.digests.get(ref.hdu_type)
        if expected is not None and digest_of(hdu).sha256 != expected:
            raise FileRefused(f"{hdu}: changed since the run was planned; plan again")
        table = open_table(hdu)
        if hdu.name != ref.hdu_name:
            notes.quirk("hdu-name-case")
        if ref.size is not None and not self._has_size(ref, hdu):
            notes.quirk("index-size-disagrees")
        notes.quirk(*header_quirks(facts_of(ref.hdu_type, table)))
        return table

    def _has_size(self, ref: HduRef, hdu: Hdu) -> bool:
        """Whether SIZE of the index is that of the HDU, of the file, or of its decompressed content."""
        content = sum(len(each.header_bytes) + len(each.data_bytes) for each in self.hdus[ref.path])
        sizes = len(hdu.header_bytes) + len(hdu.data_bytes), content
        return ref.size in sizes or ref.size == ref.path.stat().st_size


def _find(hdus: tuple[Hdu, ...], ref: HduRef) -> Hdu:
    """HDU of a name, without regard to case."""
    found = [hdu for hdu in hdus if hdu.name.upper() == ref.hdu_name.strip().upper()]
    if not found:
        names = ", ".join(hdu.name or "(unnamed)" for hdu in hdus)
        raise FileRefused(f"{ref.path}: no HDU {ref.hdu_name!r} (row {ref.row} of the index), only {names}")
    return found[0]


def facts_of(hdu_type: str, table: Table) -> Facts:
    """What the conditions of quirks may look at."""
    return Facts(hdu_type, table.header, {name: column.unit for name, column in table.fields.items()})
