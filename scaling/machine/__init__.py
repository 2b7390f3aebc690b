"""The machine here: its slots, devices and speed."""
