"""`accuracy`: mIoU of a bundle on the published benchmarks, or on any folder with label maps."""
