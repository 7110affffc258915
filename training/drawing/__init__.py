"""How the procedural scenes are drawn: canvas and textures, things, layouts, captions."""
