"""Detecting in many images: which, what was found so far, and the pictures."""
