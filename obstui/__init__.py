"""obstui: queue, watch and compare pruning jobs for Stable Diffusion XL in the terminal."""

__version__ = "0.1.0"
