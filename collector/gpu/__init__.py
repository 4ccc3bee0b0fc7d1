"""NVIDIA GPUs through NVML, in a process of its own that may hang or die without hurting anybody.

`session.py` talks to NVML, one file for each thing that is asked; `worker.py` runs a session and `guard.py` watches it;
`collector/nvml.py` is the collector.
"""
