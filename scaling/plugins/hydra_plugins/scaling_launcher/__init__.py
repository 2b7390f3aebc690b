"""Hydra launchers: every launcher of `scaling.launch.launchers`, as `local` and `in_process`."""
