"""Hydra launchers `local` and `in_process`, and whichever else `scaling.launch.launchers` names."""
