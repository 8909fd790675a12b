"""The obstui engine: one-shot structured pruning of Stable Diffusion XL by OBS-Diff.

A library of its own: it knows nothing of jobs, queues or terminals.
"""
