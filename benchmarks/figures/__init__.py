"""`figures`: the paper's figures for any bundle and image."""
