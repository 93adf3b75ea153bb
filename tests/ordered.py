"""In which order things reach the disk: what a power loss may take is what was not put there before it was built upon."""

import os
from contextlib import contextmanager

import registry.database


class Order:
    """The steps of a piece of work that a power loss could tear, and what was not on the disk when it should have been.

    Attributes:
        steps: kind and name: "synced", "named" and "row", as they happened.
        wrong: in words.
    """

    def __init__(self):
        self.steps, self.wrong = [], []
        self._paths, self._synced, self._unsafe = {}, {}, set()

    def opened(self, handle, path):
        self._paths[handle] = os.path.abspath(os.fsdecode(path))

    def synced(self, handle):
        path = self._paths[handle]
        self._synced[os.fstat(handle).st_ino] = os.fstat(handle).st_mtime_ns
        self._unsafe.discard(path)
        self.steps.append(("synced", os.path.basename(path)))

    def named(self, old, new):
        """A file or a folder gets a name: all of it must be on the disk as it is."""
        inside = [
            os.path.join(at, name) for at, ones, files in os.walk(old) for name in (*ones, *files)
        ]
        for path in (os.fspath(old), *inside):
            status = os.stat(path)
            if self._synced.get(status.st_ino) != status.st_mtime_ns:
                self.wrong.append(f"{path} was not on the disk when {os.fspath(new)} got its name")
        self._unsafe.add(os.path.dirname(os.path.abspath(new)))
        self.steps.append(("named", os.path.basename(new)))

    def row(self):
        """A transaction begins: names that it may speak of must be on the disk."""
        self.wrong += [
            f"names in {path} were not on the disk before a row" for path in self._unsafe
        ]
        self.steps.append(("row", ""))


@contextmanager
def ordered(monkeypatch):
    """Watch the order in which this process syncs, names and writes rows."""
    order = Order()
    real = {name: getattr(os, name) for name in ("open", "fsync", "fdatasync", "rename", "replace")}
    write = registry.database.Database.write

    def open_(path, *args, **kwargs):
        handle = real["open"](path, *args, **kwargs)
        order.opened(handle, path)
        return handle

    def sync(name):
        def call(handle):
            real[name](handle)
            order.synced(handle)

        return call

    def name_(name):
        def call(old, new, **kwargs):
            order.named(old, new)
            real[name](old, new, **kwargs)

        return call

    def begin(self):
        order.row()
        return write(self)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_)
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, sync(name))
        for name in ("rename", "replace"):
            patch.setattr(os, name, name_(name))
        patch.setattr(registry.database.Database, "write", begin)
        yield order
