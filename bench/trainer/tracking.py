"""Bytes of tensors that live at once, seen from below: every storage that an operator returns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakTracker(TorchDispatchMode):
    """While it is entered, `peak` is the highest sum of bytes after an operator.

    Storages that are emptied in place (FSDP frees gathered parameters so) count
    with what they hold at that moment.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, StorageWeakRef] = {}
        for tensor in known:
            self._take(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # it comes again, with the tensors inside
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, result)):
            if isinstance(leaf, Tensor):
                self._take(leaf)
        self.peak = max(self.peak, self.now())
        return result

    def now(self) -> int:
        """Bytes that live now."""
        total = 0
        for key, reference in list(self._live.items()):
            storage = torch.UntypedStorage._new_with_weak_ptr(reference.cdata)
            if storage is None:
                del self._live[key]
            else:
                total += storage.nbytes()
        return total

    def _take(self, tensor: Tensor) -> None:
        if isinstance(tensor, DTensor):
            tensor = tensor.to_local()
        if tensor.device.type == "meta":
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._live:
            self._live[key] = StorageWeakRef(storage)
