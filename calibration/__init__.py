"""Measure the models on hardware, keep the raw rows, and fit the profiles that the package ships."""
