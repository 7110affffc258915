"""One file an inference engine, behind the protocol of `t2d_runtime.backends.base`."""
