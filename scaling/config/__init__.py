"""From Hydra's configuration to runs; with the plugins and the launch shims, all that knows Hydra."""
