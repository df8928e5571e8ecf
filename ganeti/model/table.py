"""An immutable mapping that remembers what changed since it was last saved.

The cluster keeps its nodes, instances and disks in tables. A table is never edited: `with_item` and
`without` give a new one. `changes` is what a journal has to record, so that saving a change costs as
much as the change, however large the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=str)
V = TypeVar("V")


class Table(Mapping[K, V], Generic[K, V]):
    """Immutable mapping with a secondary key (usually the name) and a record of changes.

    Args:
        items: the content; copied.
        key: gives the secondary key of a value; two values must not share one.
    """

    __slots__ = ("_changes", "_index", "_items", "_key")

    def __init__(self, items: Mapping[K, V] | None = None, *, key: Callable[[V], str]) -> None:
        self._items: dict[K, V] = dict(items or {})
        self._key = key
        self._index: dict[str, K] | None = None
        self._changes: dict[K, V | None] = {}

    def __getitem__(self, item: K) -> V:
        return self._items[item]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __repr__(self) -> str:
        return f"<Table of {len(self)}, {len(self._changes)} changed>"

    def by_key(self, key: str) -> V | None:
        """The value with this secondary key, or None."""
        item = self._keys().get(key)
        return None if item is None else self._items[item]

    @property
    def changes(self) -> Mapping[K, V | None]:
        """What differs from the table last settled: new value, or None for what was removed."""
        return self._changes

    def with_item(self, item: K, value: V) -> Table[K, V]:
        """This table with one value put in or replaced."""
        return self.with_items({item: value})

    def with_items(self, items: Mapping[K, V]) -> Table[K, V]:
        """This table with several values put in or replaced."""
        if not items:
            return self
        new = self._copy()
        for item, value in items.items():
            if new._index is not None:
                if item in self._items:
                    new._index.pop(self._key(self._items[item]), None)
                new._index[self._key(value)] = item
            new._items[item] = value
            new._changes[item] = value
        return new

    def without(self, *items: K) -> Table[K, V]:
        """This table with these values taken out; those that are not there are passed over."""
        present = [item for item in items if item in self._items]
        if not present:
            return self
        new = self._copy()
        for item in present:
            value = new._items.pop(item)
            if new._index is not None:
                new._index.pop(self._key(value), None)
            new._changes[item] = None
        return new

    def settled(self) -> Table[K, V]:
        """The same content with an empty record of changes; shares the content, copies nothing."""
        new: Table[K, V] = Table.__new__(Table)
        new._items, new._key, new._index, new._changes = self._items, self._key, self._index, {}
        return new

    def matching(self, wanted: Callable[[V], bool]) -> Iterable[V]:
        """Values for which a test holds, in no particular order."""
        return (value for value in self._items.values() if wanted(value))

    def _keys(self) -> dict[str, K]:
        if self._index is None:
            self._index = {self._key(value): item for item, value in self._items.items()}
        return self._index

    def _copy(self) -> Table[K, V]:
        new: Table[K, V] = Table.__new__(Table)
        new._items = self._items.copy()
        new._key = self._key
        new._index = None if self._index is None else self._index.copy()
        new._changes = self._changes.copy()
        return new
