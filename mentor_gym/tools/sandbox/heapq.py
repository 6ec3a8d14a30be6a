"""`heapq`: heaps in a list."""

from typing import Any


def _sift_up(heap: list[Any], position: int) -> None:
    item = heap[position]
    while position > 0:
        parent = (position - 1) // 2
        if not item < heap[parent]:
            break
        heap[position] = heap[parent]
        position = parent
    heap[position] = item


def _sift_down(heap: list[Any], position: int) -> None:
    size = len(heap)
    item = heap[position]
    while 2 * position + 1 < size:
        child = 2 * position + 1
        if child + 1 < size and not heap[child] < heap[child + 1]:
            child += 1
        if not heap[child] < item:
            break
        heap[position] = heap[child]
        position = child
    heap[position] = item


def heappush(heap: list[Any], item: Any) -> None:
    """Put an item on the heap."""
    heap.append(item)
    _sift_up(heap, len(heap) - 1)


def heappop(heap: list[Any]) -> Any:
    """Take the smallest item off the heap."""
    if not heap:
        raise IndexError("index out of range")
    last = heap.pop()
    return heapreplace(heap, last) if heap else last


def heapreplace(heap: list[Any], item: Any) -> Any:
    """Take the smallest item off the heap, then put another on it."""
    if not heap:
        raise IndexError("index out of range")
    smallest = heap[0]
    heap[0] = item
    _sift_down(heap, 0)
    return smallest


def heappushpop(heap: list[Any], item: Any) -> Any:
    """Put an item on the heap, then take the smallest off it."""
    return heapreplace(heap, item) if heap and heap[0] < item else item


def heapify(x: list[Any]) -> None:
    """Make a list a heap, in place."""
    for position in reversed(range(len(x) // 2)):
        _sift_down(x, position)


def nsmallest(n: int, iterable: Any, key: Any = None) -> list[Any]:
    """Return the n smallest items, smallest first."""
    return sorted(iterable, key=key)[: max(0, n)]


def nlargest(n: int, iterable: Any, key: Any = None) -> list[Any]:
    """Return the n largest items, largest first."""
    return sorted(iterable, key=key, reverse=True)[: max(0, n)]
