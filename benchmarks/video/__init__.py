"""`python -m benchmarks video`: the rate of `t2d video`, its stages, and long runs."""
