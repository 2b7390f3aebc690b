"""Configuration turned into runs: besides this room, only the plugins and the launch room import Hydra."""
