"""What the machine here can do: its slots, devices and speed."""
