"""Infos of single environments as the arrays of a vector of them."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np


def batch_infos(num_envs: int, rows: list[int], infos: list[dict[str, Any]]) -> dict[str, Any]:
    """Make what `gymnasium.vector.VectorEnv._add_info` makes, but key by key, in a third of the time.

    Numbers become an array of their type, arrays one with a further axis, dictionaries a dictionary, anything else
    an array of objects; as in Gymnasium, the first value decides. `_key` says which environments have `key`. Where
    it is missing, numbers are 0 and objects None.

    Args:
        num_envs: The length of the arrays.
        rows: The positions of the environments that have infos, in rising order.
        infos: Their infos.

    Returns:
        The arrays by key.

    >>> batch_infos(3, [0, 2], [{"turn": 1, "task_id": "sum-1"}, {"turn": 4}])["turn"]
    array([1, 0, 4])
    """
    batch: dict[str, Any] = {}
    of_rows = np.zeros(num_envs, np.bool_)
    of_rows[rows] = True
    for key in dict.fromkeys(chain.from_iterable(infos)):
        own, mask = rows, of_rows.copy()
        values = [info[key] for info in infos if key in info]
        if len(values) < len(rows):
            own = [i for i, info in zip(rows, infos) if key in info]
            mask[:] = False
            mask[own] = True
        kind = type(values[0])
        is_number = kind in (int, float, bool) or issubclass(kind, np.number)
        array: Any
        if issubclass(kind, dict):
            array = batch_infos(num_envs, own, values)
        elif is_number and len(own) == num_envs:
            array = np.array(values, kind)
        elif len(own) == num_envs and not issubclass(kind, np.ndarray):
            array = np.fromiter(values, object, num_envs)
        else:
            if issubclass(kind, np.ndarray):
                array = np.zeros((num_envs, *values[0].shape), values[0].dtype)
            else:
                # An empty array of objects holds None.
                array = np.zeros(num_envs, kind) if is_number else np.empty(num_envs, object)
            for i, value in zip(own, values):
                array[i] = value
        batch[key], batch[f"_{key}"] = array, mask
    return batch
