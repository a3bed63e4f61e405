"""The optimizer of a recipe: Adam, or Muon for the wide convolutions and Adam for the rest."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from ramedge.network.attention import Excitation
from ramedge.training.recipe import Recipe

ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-8
MUON_MOMENTUM = 0.95
_NORM_MEMORY = 0.99
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Approximately U·Vᵀ of the SVD U·S·Vᵀ, by quintic Newton-Schulz steps in FP32.

    `[..., m, n]` → `[..., m, n]`. A batch of small matrices takes a seventh of the time of single
    ones.

    Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024).
    torch's own Muon iterates in bfloat16, which is 20 times slower on a CPU without it.
    """
    a, b, c = _NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-12)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    orthogonal: Tensor = x.mT if tall else x
    return orthogonal


class Muon(torch.optim.Optimizer):
    """Momentum, then orthogonalisation of each weight as a matrix `[out, in·kh·kw]`.

    `rms` is the root mean square of an update at learning rate 1. 0.2 is about Adam's own (Liu
    et al., "Muon is Scalable for LLM Training", arXiv 2502.16982, Eq. 4).
    """

    def __init__(self, params: list[nn.Parameter], lr: float, rms: float) -> None:
        super().__init__(params, {"lr": lr, "rms": rms})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    matrix = self._direction(parameter, parameter.grad.float())
                    by_shape[matrix.shape].append((parameter, matrix))
            for shape, pairs in by_shape.items():
                size = group["rms"] * math.sqrt(max(shape))
                updates = orthogonalize(torch.stack([matrix for _, matrix in pairs]))
                for (parameter, _), update in zip(pairs, updates, strict=True):
                    parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"] * size)

    def _direction(self, parameter: nn.Parameter, gradient: Tensor) -> Tensor:
        """Nesterov's momentum as a matrix."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum = state["momentum"]
        momentum.mul_(MUON_MOMENTUM).add_(gradient)
        direction: Tensor = gradient + MUON_MOMENTUM * momentum
        return direction.reshape(direction.shape[0], -1)


class GradientLimit:
    """Adaptive gradient clipping: limits a gradient's norm to `times` its running average.

    The average is kept for each parameter. One patch that drives the network out of its range has
    a gradient norm a thousand times that of the others: it would dominate Muon's momentum for
    hundreds of steps, and Adam's for thousands.
    """

    def __init__(self, parameters: list[nn.Parameter], times: float) -> None:
        self._parameters = parameters
        self._times = times
        device = parameters[0].device
        self.average = torch.zeros(len(parameters), device=device)

    @torch.no_grad()
    def apply(self) -> None:
        """Clip in place. The first gradient of a parameter sets its average.

        The tail of a scale that was not drawn has no gradient.
        """
        present = [i for i, p in enumerate(self._parameters) if p.grad is not None]
        gradients = [g for i in present if (g := self._parameters[i].grad) is not None]
        index = torch.tensor(present, device=self.average.device)
        norms = torch.stack(torch._foreach_norm(gradients)).float()
        before = self.average[index]
        before = torch.where(before > 0, before, norms)
        factors = (self._times * before / norms.clamp_min(1e-30)).clamp_max(1.0)
        torch._foreach_mul_(
            gradients, [f.to(g.dtype) for f, g in zip(factors, gradients, strict=True)]
        )
        self.average[index] = torch.lerp(before, norms * factors, 1.0 - _NORM_MEMORY)


class Optimizer:
    """One or two torch optimizers with a common learning rate.

    With the recipe's `muon`, the wide 3×3 convolutions (blocks, body, upsamplers) are updated by
    Muon, all other parameters by Adam.
    """

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        wide = [p for p in network.parameters() if recipe.optimizer == "muon" and _is_wide(p)]
        squeeze = squeeze_weights(network)
        chosen = {id(p) for p in (*wide, *squeeze)}
        rest = [p for p in network.parameters() if id(p) not in chosen]
        groups = [{"params": rest, "factor": 1.0}]
        if squeeze:
            groups.append({"params": squeeze, "factor": recipe.squeeze_rate})
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.Adam(
                groups, lr=recipe.learning_rate, betas=ADAM_BETAS, eps=ADAM_EPS, fused=True
            )
        ]
        if wide:
            self._parts.append(Muon(wide, lr=recipe.learning_rate, rms=recipe.muon_rms))
        self._limit = (
            GradientLimit(list(network.parameters()), recipe.gradient_limit)
            if recipe.gradient_limit
            else None
        )

    def step(self, learning_rate: float) -> None:
        """Update all parameters from their gradients, then clear the gradients."""
        if self._limit is not None:
            self._limit.apply()
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate * group.get("factor", 1.0)
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """State of each optimizer, in order, and of the gradient limit if there is one."""
        states = [part.state_dict() for part in self._parts]
        if self._limit is not None:
            states.append({"average": self._limit.average})
        return states

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Restore the result of `state_dict`."""
        if self._limit is not None:
            *states, limit = states
            self._limit.average.copy_(limit["average"])
        for part, state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)


def squeeze_weights(network: nn.Module) -> list[nn.Parameter]:
    """Weights of the first layer after the variance pooling, one for each block."""
    layers = [module.fc1 for module in network.modules() if isinstance(module, Excitation)]
    return [parameter for layer in layers for parameter in layer.parameters() if parameter.ndim > 1]


def _is_wide(parameter: nn.Parameter) -> bool:
    return parameter.ndim == 4 and min(parameter.shape[:2]) >= 16 and parameter.shape[2] > 1
