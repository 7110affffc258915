"""Video, cameras, network streams and folders: sources of frames, their segmentation as they come, and sinks."""
