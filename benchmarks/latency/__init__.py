"""`latency`: time, memory and size of a bundle against PyTorch.

`command` chooses and prints the parts. Each part is a function that takes the `Setup` and returns a table or a sweep.
"""
