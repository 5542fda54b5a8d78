"""Results in a storage of Snakemake (``--default-storage-provider``): what there is.

Jobs know of none: they work in a folder of copies, to which Snakemake fetches what they read and from which it stores.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def place(workflow: Any, path: str) -> Any:
    """Where jobs find a file or folder of the results; if it is stored, its flag ``storage_object`` says where."""
    return workflow.modifier.path_modifier.modify(path)


def look(workflow: Any, results: str, files: Iterable[str]) -> dict[str, float] | None:
    """Which files below the results are stored, and since when (s); None if there is no storage."""
    if workflow.storage_settings.default_storage_provider is None:
        return None
    from snakemake.io import IOCache

    cache = IOCache(max_wait_time=0)

    async def ask() -> dict[str, float]:
        found, known = {}, cache.exists_in_storage
        # An object storage lists for the first that is asked for all that begins like its folder: here, the results.
        for file in ("_", *files):
            each = place(workflow, f"{results}/{file}").flags["storage_object"]
            key = each.cache_key()
            await each.inventory(cache)
            if key not in known:
                known[key] = each.get_inventory_parent() not in known and await each.managed_exists()
            if known[key]:
                found[file] = cache.mtime[key].storage() if key in cache.mtime else await each.managed_mtime()
        return found

    return workflow.async_run(ask())


def remove(workflow: Any, path: str) -> None:
    """Remove a file that is stored."""
    workflow.async_run(place(workflow, path).flags["storage_object"].managed_remove())


def damaged_copies(folder: Path) -> dict[Path, str]:
    """Copies that jobs have set aside, and which files below the results they are of: these are still stored."""
    found = sorted(folder.rglob("*.corrupt*"))
    return {copy: str(copy.relative_to(folder)).rpartition(".corrupt")[0] for copy in found}
