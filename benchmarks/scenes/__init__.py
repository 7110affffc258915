"""`scenes`: mIoU on drawn scenes."""
