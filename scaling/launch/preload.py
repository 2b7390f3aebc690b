"""What the fork server imports once, so that each run starts in milliseconds."""

import hydra.core.utils  # noqa: F401
import torch
from hydra.core.plugins import Plugins

import scaling.train.lockstep  # noqa: F401

# Building the first optimizer imports torch._dynamo, a second by itself. Nothing is computed here: a thread pool that
# has started before the fork would hang its children.
torch.optim.AdamW([torch.nn.Parameter(torch.empty(1))], fused=True)
Plugins.instance()
