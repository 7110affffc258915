"""`latency`: time, memory and size of a bundle against PyTorch.

`command` chooses and prints the parts; each part is one function that takes the `Setup` and gives a table or a sweep.
"""
