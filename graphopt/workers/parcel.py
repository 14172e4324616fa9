"""What travels to workers by its content: a file, a file and those beside it, or a folder."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from graphopt.errors import WorkerError

Contents = Mapping[str, bytes]
"""The files of a parcel: bytes by relative name."""


@dataclass(frozen=True)
class Parcel:
    """A file or a folder, told by what is in it; small, and picklable.

    Args:
        digest: SHA-256 in hexadecimal: of the bytes of a single file; of several, of the lines
            "<SHA-256 of the file> <name>" in the order of their names.
        name: of the file or folder.
        path: where it lies on the machine of the coordinator; a worker asks its shelf.
        files: relative to the folder of ``path``, "/" between parts, sorted.
        size: bytes of all files together.
    """

    digest: str
    name: str
    path: Path
    files: tuple[str, ...]
    size: int

    @property
    def key(self) -> str:
        """What tells it from all others: the same bytes under another name are another parcel."""
        return f"{self.digest}/{self.name}"


def pack(path: Path, *beside: str) -> Parcel:
    """Return the parcel of a file, or of all files in a folder.

    Args:
        path: the file or folder.
        beside: further files that belong to it, relative to the folder it lies in.

    Raises:
        WorkerError: G606, a file cannot be read or lies elsewhere.
    """
    path = path.absolute()
    root = path.parent
    try:
        within = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
        names = {each.relative_to(root).as_posix() for each in within}
        files = tuple(sorted(names.union(_inside(name) for name in beside)))
        digest = digest_of({name: _file_digest(root / name) for name in files})
        size = sum((root / name).stat().st_size for name in files)
    except OSError as error:
        raise _unreadable(path, error) from error
    return Parcel(digest, path.name, path, files, size)


def describe(data: bytes, name: str, folder: Path) -> Parcel:
    """Return the parcel of one new file that is to lie in a folder of parcels.

    Raises:
        WorkerError: G606, the name leads out of the folder.
    """
    digest = hashlib.sha256(data).hexdigest()
    return Parcel(digest, name, folder / digest / _inside(name), (name,), len(data))


def save(parcel: Parcel, found: Contents) -> None:
    """Write a parcel's files to where it says they lie, unless they are there."""
    if not parcel.path.exists():
        write(parcel.path.parent, found)


def contents(parcel: Parcel) -> Contents:
    """Read the parcel's files by their relative names.

    Raises:
        WorkerError: G606, they cannot be read, or have changed since the parcel was made.
    """
    root = parcel.path.parent
    try:
        found = {name: (root / name).read_bytes() for name in parcel.files}
    except OSError as error:
        raise _unreadable(parcel.path, error) from error
    if not is_intact(parcel, found):
        raise WorkerError(
            f"`{parcel.name}` changed while it was worked on",
            code="G606",
            where=str(parcel.path),
            hint="leave models and data alone while workers read them, and start again",
        )
    return found


def is_intact(parcel: Parcel, found: Contents) -> bool:
    """Whether these bytes are what the parcel is called after."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}
    return digest_of(digests) == parcel.digest


def lies_at(parcel: Parcel, root: Path) -> bool:
    """Whether the parcel's files lie below a folder, with the very bytes of the parcel."""
    files = [root / name for name in parcel.files]
    try:
        if sum(file.stat().st_size for file in files) != parcel.size:
            return False
        found = dict(zip(parcel.files, map(_file_digest, files), strict=True))
    except OSError:
        return False
    return digest_of(found) == parcel.digest


def write(folder: Path, found: Contents) -> None:
    """Write files below a folder, each whole or not at all."""
    for name, data in found.items():
        path = folder / _inside(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def digest_of(digests: Mapping[str, str]) -> str:
    """Return the digest of a parcel from those of its files, by relative name."""
    if len(digests) == 1:
        return next(iter(digests.values()))
    return _digest_of_lines(f"{digests[name]} {name}\n" for name in sorted(digests))


def _digest_of_lines(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inside(name: str) -> str:
    """Return a relative name that cannot lead out of its folder."""
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or PurePosixPath(name).is_absolute() or "\\" in name:
        raise WorkerError(f"`{name}` does not lie beside the file it belongs to", code="G606")
    return name


def _unreadable(path: Path, error: OSError) -> WorkerError:
    return WorkerError(
        f"`{path.name}` cannot be read: {error.strerror or error}",
        code="G606",
        where=str(path),
        hint="check the path and the permissions",
    )
