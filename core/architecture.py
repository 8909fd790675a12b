"""What an SDXL UNet holds and costs, by arithmetic on its configuration: no torch, no weights.

A UNet is a list of parts in forward order. Pruning changes only the units (heads and neurons) of
its targets, and both parameters and FLOP are linear in them:

    params = fixed + sum units * unit.params        FLOP = fixed + sum units * unit.flops

Counted are matrix products and convolutions at 2 FLOP a multiply-add, attention's two products
among them. The layer shapes are those of diffusers' UNet2DConditionModel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from core.errors import BadInput

Kind = Literal["attn1", "attn2", "ff"]

TEXT_TOKENS = 77
"""Length of SDXL's encoded prompts."""

SDXL: Mapping[str, Any] = {
    "sample_size": 128,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],  # the number of heads, whatever the key says
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
"""`unet/config.json` of stable-diffusion-xl-base-1.0, as far as it differs from the defaults."""

# Options of diffusers that no SDXL uses: each would change the layers counted here.
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "act_fn": ("silu",),
    "addition_embed_type": (None, "text_time"),
    "attention_type": ("default",),
    "class_embed_type": (None,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "cross_attention_norm": (None,),
    "downsample_padding": (1,),
    "dual_cross_attention": (False,),
    "encoder_hid_dim": (None,),
    "mid_block_only_cross_attention": (None, False),
    "mid_block_type": (None, "UNetMidBlock2DCrossAttn"),
    "num_class_embeds": (None,),
    "only_cross_attention": (False,),
    "resnet_time_scale_shift": ("default",),
    "reverse_transformer_layers_per_block": (None,),
    "time_cond_proj_dim": (None,),
    "time_embedding_dim": (None,),
    "time_embedding_type": ("positional",),
}
_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class UnitCost:
    """What one unit of a target adds: parameters, and FLOP of one sample's forward pass."""

    params: int
    flops: int


@dataclass(frozen=True, slots=True)
class TargetShape:
    """One attention or feed-forward module, as `core.targets.find_targets` finds it in the UNet.

    `width` is d of the residual stream, `context` the width of what keys and values are made from.
    It sees one token for every position of `level`, where the latents are halved `level` times.
    """

    name: str
    kind: Kind
    stage: str
    block: int
    units: int
    unit_width: int
    width: int
    context: int
    level: int

    @property
    def columns(self) -> int:
        """Input width of the consumer, and so the width of its Hessian."""
        return self.units * self.unit_width

    def unit_cost(self, tokens: int, text_tokens: int = TEXT_TOKENS) -> UnitCost:
        """The cost of one unit when the target sees `tokens` tokens a sample."""
        if self.kind == "ff":  # two rows with biases of net.0.proj, one column of net.2
            return UnitCost(3 * self.width + 2, 6 * self.width * tokens)
        keys = tokens if self.kind == "attn1" else text_tokens
        own, read = 2 * self.width * self.unit_width, 2 * self.context * self.unit_width
        products = 2 * tokens * keys * self.unit_width  # Q K^T and its product with V
        return UnitCost(own + read, 2 * (own * tokens + read * keys + products))


@dataclass(frozen=True, slots=True)
class Part:
    """A step of the forward pass at one level: what pruning leaves alone of it.

    `params` counts everything but the units; `macs` are multiply-adds for each of the level's
    positions, `macs_once` those of a sample. A transformer's blocks are in `targets`.
    """

    kind: Literal["conv", "embedding", "resnet", "transformer"]
    stage: str
    level: int
    inputs: int
    outputs: int
    params: int
    macs: int = 0
    macs_once: int = 0
    targets: tuple[TargetShape, ...] = ()


@dataclass(frozen=True, slots=True)
class Architecture:
    """A UNet's parts in forward order. `kept` in its methods maps target names to units left;
    None, and a target not named, mean all."""

    parts: tuple[Part, ...]

    @property
    def targets(self) -> tuple[TargetShape, ...]:
        """In forward order, with the names of `core.targets.find_targets`."""
        return tuple(target for part in self.parts for target in part.targets)

    def kept(self, sparsity: float) -> dict[str, int]:
        """Units left of every target at one uniform sparsity. Raises BadInput outside [0, 1)."""
        return {target.name: units_to_keep(target.units, sparsity) for target in self.targets}

    def params(self, kept: Mapping[str, int] | None = None) -> int:
        """Parameters of the UNet."""
        fixed = sum(part.params for part in self.parts)
        return fixed + sum(
            target.unit_cost(0).params * (kept or {}).get(target.name, target.units)
            for target in self.targets
        )

    def flops(
        self,
        latent_size: int,
        kept: Mapping[str, int] | None = None,
        text_tokens: int = TEXT_TOKENS,
    ) -> int:
        """FLOP of one sample's forward pass on latents of `latent_size` x `latent_size`."""
        costs = self.unit_costs(latent_size, text_tokens)
        fixed = sum(
            2 * (part.macs * positions(latent_size, part.level) + part.macs_once)
            for part in self.parts
        )
        return fixed + sum(
            costs[target.name].flops * (kept or {}).get(target.name, target.units)
            for target in self.targets
        )

    def unit_costs(self, latent_size: int, text_tokens: int = TEXT_TOKENS) -> dict[str, UnitCost]:
        """The cost of one unit of each target, by target name in forward order."""
        return {
            target.name: target.unit_cost(positions(latent_size, target.level), text_tokens)
            for target in self.targets
        }


def unit_costs(
    config: Mapping[str, Any], latent_size: int, text_tokens: int = TEXT_TOKENS
) -> dict[str, UnitCost]:
    """Parameters and FLOP of ONE unit (head or neuron) of each target, by target name.

    `config` is diffusers' `unet/config.json` (a UNet's `.config` serves); `latent_size` the side of
    the latents, pixels over the VAE's factor. Raises BadInput for another architecture.
    """
    return derive(config).unit_costs(latent_size, text_tokens)


def positions(latent_size: int, level: int) -> int:
    """Positions (tokens) of one sample at a level: each halving rounds up."""
    side = -(-latent_size // (1 << level))
    return side * side


def units_to_keep(units: int, sparsity: float) -> int:
    """Units left of `units` at `sparsity` in [0, 1): at least 1.

    The removed share is rounded half to even, which reproduces the sizes of the published
    OBS-Diff SDXL checkpoints (arXiv 2510.06751, Table 3). Counted in exact fractions: 0.15 means
    15/100, not the float next to it.
    """
    if not 0 <= sparsity < 1:
        raise BadInput(f"sparsity {sparsity} is outside [0, 1): ask for a share such as 0.3")
    return max(1, units - round(units * Fraction(str(sparsity))))


def derive(config: Mapping[str, Any]) -> Architecture:
    """The architecture that a diffusers `unet/config.json` describes, missing keys at its defaults.

    Raises BadInput naming the key that makes it another architecture than SDXL's.
    """
    for key, allowed in _PLAIN.items():
        if config.get(key, allowed[-1]) not in allowed:
            raise BadInput(
                f"the UNet's configuration has {key} = {str(config[key])[:60]!r}, which is not "
                "Stable Diffusion XL's architecture: choose a model of that"
            )
    return Architecture(tuple(_Builder(config).parts()))


class _Builder:
    """Lists the parts of a UNet from its configuration."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.channels = self._numbers("block_out_channels", (320, 640, 1280, 1280))
        stages = len(self.channels)
        self.down = self._types("down_block_types", "DownBlock2D", stages)
        self.up = self._types("up_block_types", "UpBlock2D", stages)
        self.depths = self._per_stage("transformer_layers_per_block", 1)
        if config.get("num_attention_heads") is None:
            self.heads = self._per_stage("attention_head_dim", 8)
        else:
            self.heads = self._per_stage("num_attention_heads", 8)
        self.layers = self._per_stage("layers_per_block", 2)
        self.context = self._number("cross_attention_dim", 1280)
        self.time = 4 * self.channels[0]
        self.blocks = 0

    def parts(self) -> Iterator[Part]:
        first, last = self.channels[0], len(self.channels) - 1
        yield self._embedding()
        yield _conv("conv_in", 0, self._number("in_channels", 4), first)
        skips = [first]
        for stage, width in enumerate(self.channels):
            name = f"down{stage}"
            before = self.channels[max(0, stage - 1)]
            for layer in range(self.layers[stage]):
                yield self._resnet(name, stage, width if layer else before, width)
                if self.down[stage]:
                    yield self._transformer(name, f"down_blocks.{stage}", layer, stage)
                skips.append(width)
            if stage < last:
                yield _conv(name, stage + 1, width, width)
                skips.append(width)
        yield from self._middle(last)
        width = self.channels[last]
        for number, stage in enumerate(reversed(range(len(self.channels)))):
            name = f"up{number}"
            for layer in range(self.layers[stage] + 1):
                yield self._resnet(name, stage, width + skips.pop(), self.channels[stage])
                width = self.channels[stage]
                if self.up[number]:
                    yield self._transformer(name, f"up_blocks.{number}", layer, stage)
            if stage:
                yield _conv(name, stage - 1, width, width)
        norm = 2 * first
        yield _conv("conv_out", 0, first, self._number("out_channels", 4), more=norm)

    def _embedding(self) -> Part:
        """The timestep's two Linear layers, and those of SDXL's pooled text and sizes."""
        sources = [self.channels[0]]
        if self.config.get("addition_embed_type") == "text_time":
            sources.append(self._number("projection_class_embeddings_input_dim", None))
        macs = sum(source * self.time + self.time**2 for source in sources)
        params = macs + 2 * self.time * len(sources)
        return Part("embedding", "time", 0, sum(sources), self.time, params, macs_once=macs)

    def _middle(self, stage: int) -> Iterator[Part]:
        if self.config.get("mid_block_type", "UNetMidBlock2DCrossAttn") is None:
            return
        width = self.channels[stage]
        yield self._resnet("mid", stage, width, width)
        yield self._transformer("mid", "mid_block", 0, stage)
        yield self._resnet("mid", stage, width, width)

    def _resnet(self, name: str, level: int, inputs: int, outputs: int) -> Part:
        """Two normalised 3x3 convolutions, the timestep's projection, a 1x1 shortcut."""
        macs = 9 * (inputs + outputs) * outputs
        params = macs + 2 * inputs + 4 * outputs + (self.time + 1) * outputs
        if inputs != outputs:
            macs += inputs * outputs
            params += (inputs + 1) * outputs
        return Part(
            "resnet", name, level, inputs, outputs, params, macs, macs_once=self.time * outputs
        )

    def _transformer(self, name: str, path: str, layer: int, stage: int) -> Part:
        """Projections in and out around blocks of attn1, attn2 and ff."""
        width, heads = self.channels[stage], self.heads[stage]
        if width % heads:
            raise BadInput(
                f"the UNet's configuration divides {width} channels among {heads} heads in "
                f"{name}: the model is not consistent"
            )
        targets: list[TargetShape] = []
        for index in range(self.depths[stage]):
            block = f"{path}.attentions.{layer}.transformer_blocks.{index}"
            kinds: tuple[tuple[Kind, int, int, int], ...] = (
                ("attn1", heads, width // heads, width),
                ("attn2", heads, width // heads, self.context),
                ("ff", 4 * width, 1, width),
            )
            targets += [
                TargetShape(
                    f"{block}.{kind}",
                    kind,
                    name,
                    self.blocks,
                    units,
                    unit_width,
                    width,
                    read,
                    stage,
                )
                for kind, units, unit_width, read in kinds
            ]
            self.blocks += 1
        # A group norm and two projections; in every block three layer norms and three biases.
        params = 2 * width + 2 * (width + 1) * width + 9 * width * self.depths[stage]
        macs = 2 * width * width
        return Part("transformer", name, stage, width, width, params, macs, targets=tuple(targets))

    def _number(self, key: str, default: int | None) -> int:
        return _whole(key, self.config.get(key, default))

    def _numbers(self, key: str, default: tuple[int, ...]) -> list[int]:
        values = self.config.get(key, default)
        if not isinstance(values, (list, tuple)) or not 1 <= len(values) <= 16:
            raise BadInput(
                f"the UNet's configuration has no list of stages in {key}: the model is damaged"
            )
        return [_whole(key, value) for value in values]

    def _per_stage(self, key: str, default: int) -> list[int]:
        value = self.config.get(key, default)
        if not isinstance(value, (list, tuple)):
            return [_whole(key, value)] * len(self.channels)
        numbers = self._numbers(key, ())
        if len(numbers) != len(self.channels):
            raise BadInput(
                f"the UNet's configuration names {len(numbers)} stages in {key} but "
                f"{len(self.channels)} in block_out_channels: the model is not consistent"
            )
        return numbers

    def _types(self, key: str, plain: str, stages: int) -> list[bool]:
        """For each stage whether it has transformers."""
        types = self.config.get(key, [plain.replace("D", "CrossAttnD", 1)])
        crossing = "CrossAttn" + plain
        if not isinstance(types, (list, tuple)) or len(types) != stages:
            raise BadInput(
                f"the UNet's configuration names not {stages} blocks in {key}: "
                "the model is not consistent"
            )
        for kind in types:
            if kind not in (plain, crossing):
                raise BadInput(
                    f"the UNet's configuration has a block {str(kind)[:60]!r}, which is not "
                    "Stable Diffusion XL's architecture: choose a model of that"
                )
        return [kind == crossing for kind in types]


def _conv(stage: str, level: int, inputs: int, outputs: int, *, more: int = 0) -> Part:
    """A 3x3 convolution whose outputs lie at `level`, with `more` parameters of a norm."""
    macs = 9 * inputs * outputs
    return Part("conv", stage, level, inputs, outputs, macs + outputs + more, macs)


def _whole(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST:
        raise BadInput(
            f"the UNet's configuration has {key} = {str(value)[:60]!r} instead of a positive "
            "whole number: the model is damaged"
        )
    return value
