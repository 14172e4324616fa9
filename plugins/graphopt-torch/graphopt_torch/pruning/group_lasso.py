"""Group lasso: units that are about to go are made small first, so that less is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy as np

    from graphopt_torch.pruning.sites import Site

    Array = np.ndarray[Any, Any]

_MATRIX = 2
_SMALLEST = 1e-12


def group_lasso(
    sites: Sequence[Site], marked: Mapping[str, Array], values: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Return the sum over marked units of the norms of their weights.

    R = sum over units u and weights W of |W_u| / mean over v of |W_v|, with W_u the slice of W that
    makes u or reads it (Yuan, Lin 2006, "Model selection and estimation in regression with grouped
    variables", equation 2.1). The mean is a constant: it makes weights of different scales, and
    integers, count alike.

    Args:
        sites: the groups.
        marked: which units count, by group; bool [units].
        values: trained tensors by name; those with one axis, such as biases, do not count.

    Returns:
        A number of at least 0; without a gradient where nothing is marked.
    """
    parts = [
        _penalty(site, mask, values)
        for site in sites
        if (mask := marked.get(site.name)) is not None and mask.any()
    ]
    return torch.stack(parts).sum() if parts else torch.zeros(())


def lasso_tensors(site: Site, names: Collection[str]) -> list[str]:
    """Return the trained tensors that hold slices of a group's units, in order of name."""
    axes = (axis for axis in site.group.axes if len(axis.value.shape or ()) >= _MATRIX)
    return sorted({axis.value.name for axis in axes} & set(names))


def _penalty(site: Site, mask: Array, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
    total = torch.zeros(())
    for axis in site.group.axes:
        tensor = values.get(axis.value.name)
        if tensor is None or tensor.dim() < _MATRIX:
            continue
        units = torch.as_tensor(site.group.units[axis], device=tensor.device)
        rows = tensor.movedim(axis.position, 0).reshape(len(units), -1)[units >= 0]
        squares = torch.zeros(site.size, device=tensor.device, dtype=tensor.dtype)
        squares = squares.index_add(0, units[units >= 0], rows.square().sum(dim=1))
        norms = (squares + _SMALLEST).sqrt()
        chosen = norms[torch.as_tensor(mask, device=tensor.device)]
        total = total.to(tensor.device) + chosen.sum() / norms.detach().mean()
    return total
