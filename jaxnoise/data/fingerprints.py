"""What tells a data set from another: the contents of its files, read once and remembered."""

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jaxnoise.data.images import digest
from jaxnoise.errors import ConfigError
from jaxnoise.files import cache_folder, write_whole

# A file changed so shortly before it was read might be changed again within one tick of its clock.
_SETTLED_NS = 2 * 10**9
_WORTH_A_LINE = 2 * 2**30

_State = list[int]


def files_digest(paths: Sequence[Path], root: Path) -> str:
    """16 hex digits over the contents of files and their names below `root`.

    `contents` says which files are read, and which are known.

    Args:
      paths: the files, in order.
      root: a folder above all of them.

    Returns:
      The digest; another order, name or byte gives another one.

    Raises:
      ConfigError: a file that cannot be read.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from jaxnoise.data.fingerprints import files_digest
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     file = Path(folder) / "a"
      ...     _ = file.write_bytes(b"one")
      ...     before = files_digest([file], Path(folder))
      ...     _ = file.write_bytes(b"two")
      ...     before == files_digest([file], Path(folder))
      False
    """
    return digest(*contents(paths, root))


def contents(paths: Sequence[Path], root: Path) -> list[bytes]:
    """The name of each file below `root` and the SHA-256 of what it holds.

    They are kept in the cache folder with the file's size, times of change and inode, as version
    control keeps them, so that a large set is read whole only once: writing to a file, or putting
    another in its place, changes one of these. What is known of other files below `root` stays
    there until they are gone.

    Args:
      paths: the files, in order.
      root: a folder above all of them.

    Returns:
      b"name sha256" for each file, the name as the disk has it and the SHA-256 in hex.

    Raises:
      ConfigError: a file that cannot be read.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from jaxnoise.data.fingerprints import contents
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     _ = (Path(folder) / "a").write_bytes(b"one")
      ...     contents([Path(folder) / "a"], Path(folder))[0][:10]
      b'a 7692c3ad'
    """
    # As the disk has it: a name need not be UTF-8.
    cache = cache_folder() / "digests" / f"{digest(os.fsencode(root.resolve()))}.json"
    kept = _kept(cache)
    now = time.time_ns()
    names = [path.relative_to(root).as_posix() for path in paths]
    try:
        states = [_state(path) for path in paths]
        new = [i for i, name in enumerate(names) if kept.get(name, [None])[0] != states[i]]
        size = sum(states[i][0] for i in new)
        if size > _WORTH_A_LINE:
            print(f"reading {size / 2**30:.1f} GiB of {root} once ...", file=sys.stderr, flush=True)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            found = dict(zip(new, pool.map(_sha256, [paths[i] for i in new]), strict=True))
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read ({error.strerror})") from error
    digests = [found.get(i) or str(kept[name][1]) for i, name in enumerate(names)]
    if new:
        settled: dict[str, list[object]] = {
            name: [state, sha]
            for i, (name, state, sha) in enumerate(zip(names, states, digests, strict=True))
            if i not in found or max(state[1:3]) + _SETTLED_NS < now
        }
        # A cache that cannot be written costs time only.
        with contextlib.suppress(OSError):
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_whole(cache, json.dumps(_of_others(cache, names, root) | settled))
    return [os.fsencode(f"{name} {sha}") for name, sha in zip(names, digests, strict=True)]


def _state(path: Path) -> _State:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_others(cache: Path, names: Sequence[str], root: Path) -> dict[str, list[object]]:
    """What is kept of files that have other names and are still there, such as another split's."""
    own = set(names)
    # Asked for again, since another process may have written meanwhile.
    others = {name: entry for name, entry in _kept(cache).items() if name not in own}
    return {name: entry for name, entry in others.items() if (root / name).exists()}


def _kept(cache: Path) -> dict[str, list[object]]:
    """What was read before, name -> [state, SHA-256]; nothing where the cache is damaged."""
    try:
        held = json.loads(cache.read_text())
        whole = all(len(entry) == 2 and isinstance(entry[1], str) for entry in held.values())
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return held if whole else {}
