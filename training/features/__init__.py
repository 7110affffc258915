"""Feature sets: head embeddings of images and text features of captions."""
