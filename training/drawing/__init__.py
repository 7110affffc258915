"""Drawing of the procedural scenes: canvas and textures, things, layouts, captions."""
