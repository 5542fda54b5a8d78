"""Where the files of an index may lie: below the index itself or below a folder the user has named."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cubeflow.dl3.files import FileRefused


@dataclass
class Resolver:
    """Turns FILE_DIR and FILE_NAME into checked paths; folders are resolved once.

    Parameters
    ----------
    base : Path
        Resolved folder that FILE_DIR is relative to.
    allowed : tuple of Path
        Resolved folders that files may lie in.
    folders : dict
        Resolved folders by FILE_DIR as written; None where a folder is not allowed.
    """

    base: Path
    allowed: tuple[Path, ...]
    folders: dict[str, Path] = field(default_factory=dict)

    def resolve(self, file_dir: str, file_name: str) -> Path:
        """Path of an indexed file with links resolved.

        Raises
        ------
        FileRefused
            If the name is empty or holds control characters, the file is missing or no regular file,
            or lies outside the allowed folders; the message then holds the line to add to the configuration.
        """
        if not file_name or not (file_dir + file_name).isprintable():
            raise FileRefused(f"index: FILE_DIR, FILE_NAME = {file_dir!r}, {file_name!r}: no name of a file")
        head, _, name = f"{file_dir}/{file_name}".rpartition("/")
        try:
            folder = self.folders.get(head) or self._folder(head)
            path = folder / name
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                path = path.resolve()
                self._require_allowed(path.parent)
                mode = path.lstat().st_mode
        except OSError as error:
            raise FileRefused(f"{error.filename or file_name}: {error.strerror or error}") from error
        except RuntimeError as error:
            raise FileRefused(f"{self.base / head / name}: {error}") from error
        if not stat.S_ISREG(mode):
            raise FileRefused(f"{path}: expected a regular file")
        return path

    def _folder(self, written: str) -> Path:
        """Resolve a folder and check that it is allowed."""
        folder = (self.base / written if written.strip("/") or written.startswith("//") else self.base).resolve()
        self._require_allowed(folder)
        self.folders[written] = folder
        return folder

    def _require_allowed(self, folder: Path) -> None:
        """Refuse a folder outside the allowed ones."""
        if not any(folder.is_relative_to(root) for root in self.allowed):
            line = f'data: {{roots: ["{self._root_for(folder)}"]}}'
            raise FileRefused(f"{folder}: outside {self.base}; to allow it, add to the configuration: {line}")

    def _root_for(self, folder: Path) -> Path:
        """Folder to allow: what `folder` has in common with the index, unless that is as wide as a home."""
        common = next(parent for parent in (folder, *folder.parents) if self.base.is_relative_to(parent))
        return common if len(common.parts) > 2 and common != Path.home() else folder


def make_resolver(base: Path, index_folder: Path, roots: Iterable[Path]) -> Resolver:
    """Resolver for an index in `index_folder` whose FILE_DIR are relative to `base`."""
    return Resolver(base.resolve(), (index_folder.resolve(), *(Path(root).resolve() for root in roots)))
