"""The training step, how it is mapped over devices, and what a run leaves behind."""
