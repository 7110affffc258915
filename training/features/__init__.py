"""Feature sets: captions and images to head embeddings and text features."""
