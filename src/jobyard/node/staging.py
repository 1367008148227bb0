"""The rules of staging, once: bringing files to a job and away from it, and cleaning up. Standard library only, Python 3.6 syntax.

- Copies keep permissions and times. A file or folder that is brought appears under its name only when it is whole: it is
  made beside it under a temporary name, then renamed. Into a folder that is there already its entries are brought one by
  one. A link within a folder is copied as a link; a link that is itself named is followed, unless it is moved.
- A target is the name that the source gets there; one that ends in "/" is the folder that the source is put into, under
  its own name. Missing folders are made.
- Relative names lie in the job's directory. ``file:`` names are understood; other schemes are not (``problem`` says so).
- Only what lies in the job's directory is cleaned, reached without any link and without "..".
"""

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

__all__ = ["StagingError", "clean_up", "problem", "remove_tree", "stage_in", "stage_out"]

IF_PRESENT, ALWAYS = 1, 14
_OUTCOMES = {"success": 2, "error": 4, "cancel": 8}
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_PART = 1 << 20


class StagingError(Exception):
    """A file could not be brought or removed; names it and says why."""


# Names ---------------------------------------------------------------------------------------------------------------


def problem(name: "str") -> "Optional[str]":
    """Why a name of a stage cannot be used; None: it can. Text before ``://`` is a scheme, and so is ``file:``."""
    scheme, colon, rest = name.partition(":")
    if not colon or not _is_scheme(scheme) or not (rest.startswith("//") or scheme.lower() == "file"):
        return None
    if scheme.lower() != "file":
        return "files are brought by their path, or by file:; there is no transfer by %s:" % scheme
    if rest.startswith("//"):
        host, slash, _ = rest[2:].partition("/")
        if host not in ("", "localhost"):
            return "file: reaches this host only, not %r" % host
        if not slash:
            return "it has no path"
    if not rest:
        return "it has no path"
    if "%00" in rest:
        return "a path cannot hold a NUL"
    return None


def _is_scheme(text: "str") -> "bool":
    letters = "abcdefghijklmnopqrstuvwxyz"
    return text[:1].lower() in letters and bool(text) and all(c in letters + "0123456789+-." for c in text.lower())


def _path(name: "bytes", directory: "bytes") -> "bytes":
    """The absolute path of a stage's name."""
    reason = problem(name.decode("utf-8", "surrogateescape"))
    if reason:
        raise StagingError("%s: %s" % (_shown(name), reason))
    if name[:5].lower() == b"file:":
        rest = name[5:]
        if rest.startswith(b"//"):
            rest = b"/" + rest[2:].partition(b"/")[2]
        from urllib.parse import unquote_to_bytes

        name = unquote_to_bytes(rest)
    return name if name.startswith(b"/") else directory + b"/" + name


def _shown(path: "bytes") -> "str":
    return "'%s'" % path.decode("utf-8", "surrogateescape")


# In and out ----------------------------------------------------------------------------------------------------------


def stage_in(items: "List[Dict[str, Any]]", directory: "bytes") -> "None":
    """Bring files to the job. ``items``: source and target (bytes), mode. Raises StagingError at the first that fails."""
    for item in items:
        _bring(item, directory)


def stage_out(items: "List[Dict[str, Any]]", directory: "bytes", outcome: "str") -> "None":
    """Bring files away, by ``outcome``: ``success``, ``error`` or ``cancel``. All are tried; then StagingError."""
    errors = []
    for item in items:
        when = item.get("when", ALWAYS)
        if (when & ALWAYS or ALWAYS) & _OUTCOMES[outcome]:
            try:
                if when & IF_PRESENT and not os.path.lexists(_path(item["source"], directory)):
                    continue
                _bring(item, directory)
            except StagingError as error:
                errors.append(str(error))
    if errors:
        raise StagingError("; ".join(errors))


def _bring(item: "Dict[str, Any]", directory: "bytes") -> "None":
    source, target = _path(item["source"], directory), _path(item["target"], directory)
    mode = item.get("mode", "copy")
    if target.endswith(b"/"):
        target += os.path.basename(source.rstrip(b"/"))
    source = source.rstrip(b"/") or b"/"
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if mode == "link":
            os.stat(source)
            _link(os.path.realpath(source), target)
        elif mode == "move":
            _move(source, target)
        else:
            _copy(source, target, True)
    except OSError as error:
        reason = error.strerror or str(error)
        at = error.filename
        if isinstance(at, bytes) and at != source:
            reason += " (%s)" % _shown(at)
        verb = {"copy": "copied", "link": "linked", "move": "moved"}[mode]
        raise StagingError("%s cannot be %s to %s: %s" % (_shown(source), verb, _shown(target), reason)) from error


def _temporary(target: "bytes") -> "bytes":
    return os.path.dirname(target) + b"/.jobyard-" + os.urandom(6).hex().encode() + b".part"


def _link(source: "bytes", target: "bytes") -> "None":
    if source == os.path.join(os.path.realpath(os.path.dirname(target)), os.path.basename(target)):
        return  # it is there already; a link in its place would lead to itself
    temporary = _temporary(target)
    os.symlink(source, temporary)
    _put(temporary, target)


def _put(temporary: "bytes", target: "bytes") -> "None":
    """Give it its name; what bears the name already is replaced, unless it is a folder."""
    try:
        if os.path.isdir(target) and not os.path.islink(target) and not _is_folder(temporary):
            raise IsADirectoryError(errno.EISDIR, "there is a folder of that name", target)
        os.rename(temporary, target)
    except OSError:
        _discard(temporary)
        raise


def _is_folder(path: "bytes") -> "bool":
    return stat.S_ISDIR(os.lstat(path).st_mode)


def _discard(path: "bytes") -> "None":
    parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        remove_tree(parent, os.path.basename(path))
    finally:
        os.close(parent)


def _copy(source: "bytes", target: "bytes", follow: "bool") -> "None":
    """One file, folder or link; whole under its name, or not there."""
    found = os.stat(source) if follow else os.lstat(source)
    if stat.S_ISDIR(found.st_mode) and os.path.isdir(target):
        _within(source, target)
        for name in sorted(os.listdir(source)):
            _copy(source + b"/" + name, target + b"/" + name, False)
        return
    temporary = _temporary(target)
    try:
        _duplicate(source, temporary, found)
    except BaseException:
        if os.path.lexists(temporary):
            _discard(temporary)
        raise
    _put(temporary, target)


def _within(source: "bytes", target: "bytes") -> "None":
    inner, outer = os.path.realpath(target) + b"/", os.path.realpath(source) + b"/"
    if inner.startswith(outer):
        raise OSError(errno.EINVAL, "a folder cannot be put into itself", source)


def _duplicate(source: "bytes", target: "bytes", found: "os.stat_result") -> "None":
    """Make ``target``, a name that nobody reads yet."""
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(source), target)
        return
    if stat.S_ISDIR(found.st_mode):
        _within(source, os.path.dirname(target))
        os.mkdir(target, 0o700)
        for name in sorted(os.listdir(source)):
            path = source + b"/" + name
            _duplicate(path, target + b"/" + name, os.lstat(path))
    elif stat.S_ISREG(found.st_mode):
        _copy_content(source, target)
    else:
        raise OSError(errno.EINVAL, "it is neither a file, a folder nor a link", source)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
    os.chmod(target, stat.S_IMODE(found.st_mode))


def _copy_content(source: "bytes", target: "bytes") -> "None":
    reading = os.open(source, os.O_RDONLY)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            if not _copy_in_kernel(reading, writing):
                part = os.read(reading, _PART)
                while part:
                    while part:
                        part = part[os.write(writing, part) :]
                    part = os.read(reading, _PART)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_in_kernel(reading: "int", writing: "int") -> "bool":
    """Let the kernel copy, or share the blocks; False: it cannot, and nothing was copied."""
    copy = getattr(os, "copy_file_range", None)  # Python 3.8
    if copy is None:
        return False
    done = 0
    while True:
        try:
            count = copy(reading, writing, 1 << 30)
        except OSError as error:
            if not done and error.errno in (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF):
                return False
            raise
        if not count:
            return bool(done)  # some file systems answer 0 for files that do have content
        done += count


def _move(source: "bytes", target: "bytes") -> "None":
    found = os.lstat(source)
    if stat.S_ISDIR(found.st_mode):
        _within(source, os.path.dirname(target))
        if os.path.isdir(target) and not os.path.islink(target):
            _within(source, target)
            for name in sorted(os.listdir(source)):
                _move(source + b"/" + name, target + b"/" + name)
            os.rmdir(source)
            return
    elif os.path.isdir(target) and not os.path.islink(target):
        raise IsADirectoryError(errno.EISDIR, "there is a folder of that name", target)
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target, False)
        _discard(source)


# Cleaning ------------------------------------------------------------------------------------------------------------


def clean_up(names: "List[bytes]", directory: "bytes", outcome: "str", when: "int") -> "None":
    """Remove what lies in the job's directory, if ``when`` has ``outcome``. Missing is no error.

    All are tried; then StagingError.
    """
    if not (when & ALWAYS or ALWAYS) & _OUTCOMES[outcome]:
        return
    errors = []
    for name in names:
        try:
            _clean(_path(name, directory), directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            errors.append("%s cannot be cleaned: %s" % (_shown(name), error.strerror or error))
        except StagingError as error:
            errors.append(str(error))
    if errors:
        raise StagingError("; ".join(errors))


def _clean(path: "bytes", directory: "bytes") -> "None":
    parts = _parts(path)
    for top in (directory, os.path.realpath(directory)):
        if parts[: len(_parts(top))] == _parts(top):
            parts = parts[len(_parts(top)) :]
            break
    else:
        raise StagingError("%s is not cleaned: it is not in the job's directory" % _shown(path))
    if not parts:
        raise StagingError("%s is not cleaned: it is the job's directory itself" % _shown(path))
    if b".." in parts:
        raise StagingError("%s is not cleaned: a path with '..' could lead out of the job's directory" % _shown(path))
    fds = [os.open(directory, os.O_RDONLY | os.O_DIRECTORY)]
    try:
        for part in parts[:-1]:
            if stat.S_ISLNK(os.stat(part, dir_fd=fds[-1], follow_symlinks=False).st_mode):
                raise StagingError(
                    "%s is not cleaned: it is reached through a link, '%s'" % (_shown(path), part.decode("utf-8", "replace"))
                )
            fds.append(os.open(part, _FOLDER, dir_fd=fds[-1]))
        remove_tree(fds[-1], parts[-1])
    finally:
        for fd in fds:
            os.close(fd)


def _parts(path: "bytes") -> "List[bytes]":
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def remove_tree(parent: "int", name: "bytes") -> "None":
    """Remove what has this name in an open folder, with all that is in it; links are removed, not followed. Raises OSError."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=parent)
        return
    if found.st_mode & 0o700 != 0o700 and found.st_uid == os.getuid():  # a job may have closed its own folder
        try:
            fd = os.open(name, _FOLDER, dir_fd=parent)
        except PermissionError:
            os.chmod(name, 0o700, dir_fd=parent)
            fd = os.open(name, _FOLDER, dir_fd=parent)
        os.fchmod(fd, 0o700)
    else:
        fd = os.open(name, _FOLDER, dir_fd=parent)
    try:
        for item in os.listdir(fd):
            remove_tree(fd, os.fsencode(item))
    finally:
        os.close(fd)
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        pass  # somebody else did it
