"""Prices, carbon intensities and profiles: what turns usage into amounts."""
