"""An immutable mapping that remembers what changed since it was last saved.

The cluster keeps its nodes, instances and disks in tables. A table is never edited: `with_item` and
`without` give a new one. `changes` is what a journal has to record. Making a changed table and
saving it costs as much as the change, however large the table: tables share one large dictionary,
and each has a small one laid over it, which is worked in only when it has grown.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, ValuesView
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=str)
V = TypeVar("V")

_OVERLAY_AT_LEAST = 64
_OVERLAY_SHARE = 64
"""The small dictionary is worked in when it is longer than the sum of the first number and the
large one's length divided by the second."""


Keys = Callable[[Any], Iterable[str]]
"""Gives the keys under which `Table.having` finds a value; a function of a module, not a lambda in
one, as the index that it makes is kept under it."""


class _Base(Generic[K, V]):
    """The large dictionary, never changed once a table has it, and indexes made when first wanted."""

    __slots__ = ("_groups", "_index", "items")

    def __init__(self, items: dict[K, V]) -> None:
        self.items = items
        self._index: dict[str, K] | None = None
        self._groups: dict[Keys, dict[str, tuple[K, ...]]] = {}

    def index(self, key: Callable[[V], str]) -> dict[str, K]:
        """Secondary key to key."""
        if self._index is None:
            self._index = {key(value): item for item, value in self.items.items()}
        return self._index

    def group(self, keys: Keys, wanted: str) -> tuple[K, ...]:
        """Items among whose keys is the wanted one."""
        groups = self._groups.get(keys)
        if groups is None:
            lists: dict[str, list[K]] = {}
            for item, value in self.items.items():
                for key in dict.fromkeys(keys(value)):
                    lists.setdefault(key, []).append(item)
            groups = self._groups[keys] = {key: tuple(items) for key, items in lists.items()}
        return groups.get(wanted, ())

    def changed(self, over: Mapping[K, V | None], items: dict[K, V], key: Callable[[V], str]) -> _Base[K, V]:
        """A base with other items, whose indexes are those of this one with the difference."""
        new = _Base(items)
        if self._index is not None:
            new._index = self._index.copy()
            for item in over.keys() & self.items.keys():
                new._index.pop(key(self.items[item]), None)
            new._index.update((key(value), item) for item, value in over.items() if value is not None)
        for keys, groups in self._groups.items():
            new._groups[keys] = self._regrouped(groups.copy(), over, keys)
        return new

    def _regrouped(
        self, groups: dict[str, tuple[K, ...]], over: Mapping[K, V | None], keys: Keys
    ) -> dict[str, tuple[K, ...]]:
        for item, value in over.items():
            before = set(keys(self.items[item])) if item in self.items else set()
            after = set(keys(value)) if value is not None else set()
            for key in before - after:
                rest = tuple(other for other in groups[key] if other != item)
                if rest:
                    groups[key] = rest
                else:
                    del groups[key]
            for key in after - before:
                groups[key] = (*groups.get(key, ()), item)
        return groups


class Table(Mapping[K, V], Generic[K, V]):
    """Immutable mapping with a secondary key (usually the name) and a record of changes.

    Args:
        items: the content; copied.
        key: gives the secondary key of a value; two values must not share one.
    """

    __slots__ = ("_base", "_changes", "_key", "_length", "_over", "_over_index")

    def __init__(self, items: Mapping[K, V] | None = None, *, key: Callable[[V], str]) -> None:
        self._base: _Base[K, V] = _Base(dict(items or {}))
        self._key = key
        self._over: dict[K, V | None] = {}
        """What differs from the base; None: not there any more."""
        self._over_index: dict[str, K] = {}
        self._length = len(self._base.items)
        self._changes: dict[K, V | None] = {}

    def __getitem__(self, item: K) -> V:
        if item in self._over:
            value = self._over[item]
            if value is None:
                raise KeyError(item)
            return value
        return self._base.items[item]

    def __iter__(self) -> Iterator[K]:
        return iter(self._base.items) if not self._over else (item for item, _ in self._pairs())

    def __len__(self) -> int:
        return self._length

    def __contains__(self, item: object) -> bool:
        if item in self._over:
            return self._over[item] is not None
        return item in self._base.items

    def __repr__(self) -> str:
        return f"<Table of {len(self)}, {len(self._changes)} changed>"

    def values(self) -> ValuesView[V]:
        """All values, in the order of the keys."""
        return _Values(self) if self._over else self._base.items.values()

    def items(self) -> ItemsView[K, V]:
        """All keys with their values."""
        return _Items(self) if self._over else self._base.items.items()

    def by_key(self, key: str) -> V | None:
        """The value with this secondary key, or None."""
        item = self._over_index.get(key)
        if item is not None:
            return self._over[item]
        item = self._base.index(self._key).get(key)
        # An item laid over the base is in the upper index if it still has this key.
        return None if item is None or item in self._over else self._base.items[item]

    def having(self, keys: Keys, wanted: str) -> Iterator[V]:
        """Values among whose keys is the wanted one, in no particular order; quick in large tables.

        Args:
            keys: such as a function that gives the MAC addresses of an instance.
            wanted: a key.
        """
        for item in self._base.group(keys, wanted):
            if item not in self._over:
                yield self._base.items[item]
        for value in self._over.values():
            if value is not None and wanted in keys(value):
                yield value

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
            if item not in new:
                new._length += 1
            new._drop_from_index(item)
            new._over[item] = new._changes[item] = value
            new._over_index[self._key(value)] = item
        return new._worked_in()

    def holding(self, items: Mapping[K, V]) -> Table[K, V]:
        """A settled table with this content instead, and the same kind of secondary key."""
        return Table(items, key=self._key)

    def without(self, *items: K) -> Table[K, V]:
        """This table with these values taken out; those that are not there are passed over."""
        present = [item for item in dict.fromkeys(items) if item in self]
        if not present:
            return self
        new = self._copy()
        for item in present:
            new._drop_from_index(item)
            new._over[item] = new._changes[item] = None
        new._length -= len(present)
        return new._worked_in()

    def settled(self) -> Table[K, V]:
        """The same content with an empty record of changes; shares the content, copies nothing."""
        new = self._shallow()
        new._changes = {}
        return new

    def matching(self, wanted: Callable[[V], bool]) -> Iterable[V]:
        """Values for which a test holds, in no particular order."""
        return (value for value in self.values() if wanted(value))

    def _pairs(self) -> Iterator[tuple[K, V]]:
        over, base = self._over, self._base.items
        for item, value in base.items():
            if item not in over:
                yield item, value
            elif (newer := over[item]) is not None:
                yield item, newer
        for item, added in over.items():
            if added is not None and item not in base:
                yield item, added

    def _drop_from_index(self, item: K) -> None:
        previous = self._over.get(item)
        if previous is not None and self._over_index.get(self._key(previous)) == item:
            del self._over_index[self._key(previous)]

    def _worked_in(self) -> Table[K, V]:
        if len(self._over) > _OVERLAY_AT_LEAST + len(self._base.items) // _OVERLAY_SHARE:
            self._base = self._base.changed(self._over, dict(self._pairs()), self._key)
            self._over, self._over_index = {}, {}
        return self

    def _shallow(self) -> Table[K, V]:
        new: Table[K, V] = Table.__new__(Table)
        new._base, new._key, new._length = self._base, self._key, self._length
        new._over, new._over_index, new._changes = self._over, self._over_index, self._changes
        return new

    def _copy(self) -> Table[K, V]:
        new = self._shallow()
        new._over, new._over_index = self._over.copy(), self._over_index.copy()
        new._changes = self._changes.copy()
        return new


class _Values(ValuesView[Any]):
    """Values of a table; its own way through, as the inherited one looks up every key."""

    def __init__(self, table: Table[Any, Any]) -> None:
        super().__init__(table)
        self._table = table

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._table._pairs())


class _Items(ItemsView[Any, Any]):
    """Pairs of a table, see `_Values`."""

    def __init__(self, table: Table[Any, Any]) -> None:
        super().__init__(table)
        self._table = table

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._table._pairs()
