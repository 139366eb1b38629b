"""Answers to be rewarded, and functions that reward them in every wrong way there is."""
