"""Class names: tokens, prompts, embeddings, vocabulary files."""
