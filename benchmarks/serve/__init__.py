"""`t2d serve` under load: throughput, waiting times, memory, refusals, and hostile requests."""
