"""A module of reward functions that ends whoever imports it."""

import os

os._exit(7)
