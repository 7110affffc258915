"""Talk2DINO without PyTorch: segment any image by free words.

from t2d_runtime import Segmenter

segmenter = Segmenter.open("bundle/")
classes = segmenter.encode_classes(["cat", "grass"])
segmenter.segment("photo.jpg", classes).overlay().save("overlay.png")
"""
