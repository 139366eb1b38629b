"""Prices, carbon intensities and profiles, which convert usage into amounts."""
