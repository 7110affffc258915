"""`gpu`: everything that this project does on an NVIDIA GPU, proved and timed unattended.

`found` looks at the machine, and `stages` says what to run there. `running` runs each stage in a process of its own
within a budget of time; `child` and `torch_side` are what those processes do. `tables` shows the rows.
"""
