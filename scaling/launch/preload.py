"""Imports of the fork server, made once so that each run starts in milliseconds."""

import hydra.core.utils  # noqa: F401
import torch
from hydra.core.plugins import Plugins

import scaling.train.lockstep  # noqa: F401

# The first optimizer imports torch._dynamo, which takes a second. Nothing may be computed here: a thread pool that
# started before the fork would hang the forked processes.
torch.optim.AdamW([torch.nn.Parameter(torch.empty(1))], fused=True)
Plugins.instance()
